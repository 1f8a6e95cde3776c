"""Deep mode: norms of the consumed, fresh and stale gradient and their cosine, read in blocks."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradkit.observe.books.ledger import Ledger
from gradkit.observe.books.verdict import Verdict
from gradkit.observe.tensors.measure import FULL, Reader, norms, plain
from gradkit.records import DeepValues, Window

if TYPE_CHECKING:
    from torch.optim import Optimizer

BLOCK = 64
"""Windows queued before their records are completed together; one that deserves a judgement is completed at once where
nobody waits for a device."""


@dataclass(slots=True)
class _Queued:
    fields: dict[str, Any]
    step: int
    judged: bool
    ledger: Ledger
    learning_rate: float | None
    windows_mixed: int
    numbers: list[Tensor]
    """What is still on a device: the numbers of `_numbers`; behind them the learning rate where that is a tensor."""
    stale: bool = False
    rate_is_tensor: bool = False
    consumed: float | None = None
    """The norm of the consumed gradient where that is known already."""
    unknown: bool = False


_is_on_cpu = operator.attrgetter("is_cpu")
_dtype_of = operator.attrgetter("dtype")

_Deliver = Callable[[Window, bool, int, Ledger], None]


class Deep:
    """Takes the numbers of each window and completes its record when they are known.

    On a CPU a norm is read when it was computed, which waits for nothing; on a device it stays in a queue.

    Args:
        reader: Counts the reads.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._queue: list[_Queued] = []

    def put(
        self,
        fields: dict[str, Any],
        judged: bool,
        ledger: Ledger,
        verdict: Verdict,
        optimizer: Optimizer,
        deliver: _Deliver,
    ) -> None:
        """Queue the numbers of one window; `deliver` gets the completed records, in order.

        Args:
            fields: What the `Window` will hold besides its deep values.
            judged: Rules may want to judge it.
            ledger: The optimizer's ledger.
            verdict: What was found about the window.
            optimizer: The optimizer.
            deliver: Takes the record, `judged`, the optimizer's number and its ledger.
        """
        buffers = {i: p.grad for i, p in enumerate(ledger.parameters) if p.grad is not None}
        mixed = max(verdict.stale.values(), default=1 if buffers else 0)
        item = _Queued(fields, fields["step"], judged, ledger, None, mixed, [])
        stale = [i for i in verdict.stale if i in ledger.stale_copies and i in buffers]
        if not stale:
            self._add_norm(item, list(buffers.values()), is_plain(buffers.values()))
        else:
            with torch.no_grad():
                parts = {i: _summed(ledger.stale_copies[i]) for i in stale}
                item.numbers = _numbers({i: _summed(buffer) for i, buffer in buffers.items()}, parts)
            item.stale = True
        self._add(item, optimizer)
        waits = any(buffer.device.type != "cpu" for buffer in buffers.values())
        if (judged and not waits) or len(self._queue) >= BLOCK:
            self.flush(deliver)

    def put_sound(
        self,
        fields: dict[str, Any],
        step: int,
        ledger: Ledger,
        optimizer: Optimizer,
        gradients: list[Tensor] | None,
        plain: bool,
        deliver: _Deliver,
    ) -> None:
        """Queue the norm of a window that is fresh as a whole, in as few operations as there are.

        Args:
            fields: What the `Window` will hold besides its step and its deep values; shared by many windows.
            step: The step.
            ledger: The optimizer's ledger.
            optimizer: The optimizer.
            gradients: Its gradients, not mixed with anything; None when they are lost.
            plain: What `is_plain` said of them in a window before; that it is no longer so is noticed.
            deliver: As for `put`.
        """
        item = _Queued(fields, step, False, ledger, None, 1, [], unknown=gradients is None)
        if gradients is not None:
            self._add_norm(item, gradients, plain)
        self._add(item, optimizer)
        if len(self._queue) >= BLOCK:
            self.flush(deliver)

    def _add_norm(self, item: _Queued, gradients: list[Tensor], plain: bool) -> None:
        recording = torch.is_grad_enabled()
        torch.set_grad_enabled(False)  # `torch.no_grad` is one of the signals that observers listen to
        try:
            if plain:
                try:
                    parts = torch._foreach_norm(gradients)
                    # The model may have been moved.
                    plain = all(map(_is_on_cpu, parts)) and FULL.issuperset(map(_dtype_of, parts))
                except (NotImplementedError, RuntimeError):  # of none, or of one that has become sparse
                    plain = False
                else:
                    if plain:
                        item.consumed = math.hypot(*map(Tensor.tolist, parts))  # type: ignore[arg-type]  # numbers
            if not plain and gradients:
                item.numbers = [_norm([_summed(gradient) for gradient in gradients])]
        finally:
            torch.set_grad_enabled(recording)

    def _add(self, item: _Queued, optimizer: Optimizer) -> None:
        rate = optimizer.param_groups[0].get("lr") if optimizer.param_groups else None
        if isinstance(rate, Tensor):  # of a capturable optimizer; schedulers write into it
            item.numbers.append(rate.detach().clone())
            item.rate_is_tensor = True
        else:
            item.learning_rate = rate
        self._queue.append(item)

    def flush(self, deliver: _Deliver) -> None:
        """Read what is queued and deliver the records."""
        queue, self._queue = self._queue, []
        numbers = [number for item in queue for number in item.numbers]
        values = self._reader.read(numbers) if numbers else []
        start = 0
        for item in queue:
            part = values[start : start + len(item.numbers)]
            start += len(item.numbers)
            if item.rate_is_tensor:
                item.learning_rate = part.pop()
            values_of_window = None if item.unknown else _values(item, part)
            record = Window(**{**item.fields, "step": item.step}, deep=values_of_window)
            deliver(record, item.judged, item.ledger.number, item.ledger)


def is_plain(gradients: Iterable[Tensor]) -> bool:
    """Whether these are ordinary dense tensors of full precision on the CPU, whose norms can be read as they are."""
    return all(
        type(gradient) is Tensor
        and gradient.layout is torch.strided
        and gradient.dtype in FULL
        and gradient.device.type == "cpu"
        for gradient in gradients
    )


def _summed(gradient: Tensor) -> Tensor:
    """A gradient as tensors can be subtracted: a sparse one with every index once, a sharded one's local part."""
    return gradient.detach().coalesce() if gradient.layout is torch.sparse_coo else plain(gradient.detach())


def _norm(tensors: list[Tensor]) -> Tensor:
    """The 2-norm over all tensors as one 0-d tensor."""
    parts = norms(tensors)
    if len({(part.device, part.dtype) for part in parts}) > 1:
        parts = [part.to(parts[0].device, torch.float32) for part in parts]
    return parts[0] if len(parts) == 1 else torch.linalg.vector_norm(torch.stack(parts))


def _numbers(consumed: dict[int, Tensor], stale: dict[int, Tensor]) -> list[Tensor]:
    """What the values are computed from.

    Norms of the consumed gradient, of the part of it that no stale one touched, of the stale and of the fresh parts,
    and g . f.
    """
    rest = [buffer for i, buffer in consumed.items() if i not in stale]
    now = [consumed[i] for i in stale]
    # The fresh part by subtraction, tensor by tensor: from norms alone it would drown in rounding once the stale part
    # is large.
    fresh = [_summed(torch.sub(a, b)) for a, b in zip(now, stale.values(), strict=True)]
    total = _norm(list(consumed.values()))
    along = torch.stack([torch.sum(plain(a * b)).to(total) for a, b in zip(now, fresh, strict=True)]).sum()
    untouched = _norm(rest) if rest else torch.zeros_like(total)
    return [total, untouched, _norm(list(stale.values())), _norm(fresh), along]


def _values(item: _Queued, numbers: list[float]) -> DeepValues:
    """The values of one window from g = s + f: consumed g, stale s, fresh f."""
    if not item.stale:
        consumed = item.consumed if item.consumed is not None else numbers[0] if numbers else 0.0
        cosine = 1.0 if consumed > 0.0 and math.isfinite(consumed) else None
        return DeepValues(consumed, consumed, 0.0, cosine, item.learning_rate, item.windows_mixed)
    consumed, rest, stale, fresh, along = numbers
    fresh = math.hypot(fresh, rest)
    along += rest * rest
    cosine = along / (consumed * fresh) if consumed and fresh else math.nan
    gain = along / (fresh * fresh) if fresh else math.nan
    rate = None if item.learning_rate is None or math.isnan(gain) else item.learning_rate * gain
    bounded = None if math.isnan(cosine) else max(-1.0, min(1.0, cosine))
    return DeepValues(consumed, fresh, stale, bounded, rate, item.windows_mixed)


def jsonable(values: DeepValues | None) -> dict[str, Any]:
    """The values as a mapping of names to numbers, empty for None."""
    return {} if values is None else {name: getattr(values, name) for name in values.__dataclass_fields__}

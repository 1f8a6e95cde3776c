"""Deep mode: norms of the consumed, fresh and stale gradient and their cosine, read in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradkit.observe.ledger import Ledger, Verdict
from gradkit.observe.measure import Reader, plain
from gradkit.records import DeepValues, Window

if TYPE_CHECKING:
    from torch.optim import Optimizer

BLOCK = 64
"""Windows queued before their numbers are read together; on a CPU one that deserves a judgement is read at once."""
MOST_NUMBERS = 2048
"""Numbers queued before they are read, however few windows they are of: under 1 MB on a CPU."""
FEW_TENSORS = 64
"""Up to this many gradients on a CPU their norms are read one by one and combined then: two operations fewer a step."""


@dataclass(slots=True)
class _Queued:
    fields: dict[str, Any]
    step: int
    judged: bool
    ledger: Ledger
    learning_rate: float | None
    windows_mixed: int
    numbers: list[Tensor]
    """The numbers of `_numbers`; behind them the learning rate where that is a tensor."""
    stale: bool = False
    rate_is_tensor: bool = False


_Deliver = Callable[[Window, bool, int, Ledger], None]


class Deep:
    """Queues the numbers of each window and completes its record when they are read.

    Args:
        reader: Counts the reads.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._queue: list[_Queued] = []
        self._numbers = 0

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
        with torch.no_grad():
            stale = {i: ledger.stale_copies[i] for i in verdict.stale if i in ledger.stale_copies and i in buffers}
            numbers = _numbers(
                {i: _summed(buffer) for i, buffer in buffers.items()}, {i: _summed(s) for i, s in stale.items()}
            )
        mixed = max(verdict.stale.values(), default=1 if buffers else 0)
        item = _Queued(fields, fields["step"], judged, ledger, None, mixed, numbers, bool(stale))
        self._add(item, optimizer)
        waits = any(buffer.device.type != "cpu" for buffer in buffers.values())
        if (judged and not waits) or self._is_full():
            self.flush(deliver)

    def put_sound(
        self, fields: dict[str, Any], step: int, ledger: Ledger, optimizer: Optimizer, deliver: _Deliver
    ) -> None:
        """Queue the norms of a window that is fresh as a whole, in as few operations as there are.

        Args:
            fields: What the `Window` will hold besides its step and its deep values; shared by many windows.
            step: The step.
            ledger: The optimizer's ledger.
            optimizer: The optimizer, whose gradients are on no graph and not mixed with anything.
            deliver: As for `put`.
        """
        gradients = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
        present = [gradient for gradient in gradients if gradient is not None]
        recording = torch.is_grad_enabled()
        torch.set_grad_enabled(False)  # `torch.no_grad` is one of the signals that observers listen to
        try:
            if {gradient.layout for gradient in present} != {torch.strided} or set(map(type, present)) != {Tensor}:
                present = [_summed(gradient) for gradient in present]
            numbers = list(torch._foreach_norm(present))
            if len(numbers) > FEW_TENSORS or (numbers and numbers[0].device.type != "cpu"):
                numbers = [_combined(numbers)]
        finally:
            torch.set_grad_enabled(recording)
        self._add(_Queued(fields, step, False, ledger, None, 1, numbers), optimizer)
        if self._is_full():
            self.flush(deliver)

    def _is_full(self) -> bool:
        return len(self._queue) >= BLOCK or self._numbers >= MOST_NUMBERS

    def _add(self, item: _Queued, optimizer: Optimizer) -> None:
        rate = optimizer.param_groups[0].get("lr") if optimizer.param_groups else None
        if isinstance(rate, Tensor):  # of a capturable optimizer; schedulers write into it
            item.numbers.append(rate.detach().clone())
            item.rate_is_tensor = True
        else:
            item.learning_rate = rate
        self._queue.append(item)
        self._numbers += len(item.numbers)

    def flush(self, deliver: _Deliver) -> None:
        """Read everything queued and deliver the records."""
        queue, self._queue, self._numbers = self._queue, [], 0
        if not queue:
            return
        values = self._reader.read([number for item in queue for number in item.numbers])
        start = 0
        for item in queue:
            part = values[start : start + len(item.numbers)]
            start += len(item.numbers)
            if item.rate_is_tensor:
                item.learning_rate = part.pop()
            record = Window(**{**item.fields, "step": item.step}, deep=_values(item, part))
            deliver(record, item.judged, item.ledger.number, item.ledger)


def _summed(gradient: Tensor) -> Tensor:
    """A gradient as tensors can be subtracted: a sparse one with every index once, a sharded one's local part."""
    return gradient.detach().coalesce() if gradient.layout is torch.sparse_coo else plain(gradient.detach())


def _norm(tensors: list[Tensor]) -> Tensor:
    """The 2-norm over all tensors as one 0-d tensor; zero for none."""
    return _combined(list(torch._foreach_norm([plain(tensor) for tensor in tensors])))


def _combined(norms: list[Tensor]) -> Tensor:
    """The 2-norm over the parts these are the norms of."""
    if len({(norm.device, norm.dtype) for norm in norms}) > 1:
        norms = [norm.to(norms[0].device, torch.float32) for norm in norms]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def _numbers(consumed: dict[int, Tensor], stale: dict[int, Tensor]) -> list[Tensor]:
    """What the values are computed from.

    Norms whose own 2-norm is that of the consumed gradient; with stale parts that norm, then the norms of the untouched
    rest, of the stale and of the fresh parts, and g . f.
    """
    if not consumed:
        return []
    if not stale and len(consumed) <= FEW_TENSORS and all(item.device.type == "cpu" for item in consumed.values()):
        return list(torch._foreach_norm([plain(buffer) for buffer in consumed.values()]))
    numbers = [_norm(list(consumed.values()))]
    if not stale:
        return numbers
    rest = [buffer for i, buffer in consumed.items() if i not in stale]
    now = [consumed[i] for i in stale]
    # The fresh part by subtraction, tensor by tensor: from norms alone it would drown in rounding once the stale part
    # is large.
    fresh = [_summed(torch.sub(a, b)) for a, b in zip(now, stale.values(), strict=True)]
    along = torch.stack([torch.sum(plain(a * b)).to(numbers[0]) for a, b in zip(now, fresh, strict=True)]).sum()
    nothing = torch.zeros_like(numbers[0])
    return [*numbers, _norm(rest) if rest else nothing, _norm(list(stale.values())), _norm(fresh), along]


def _values(item: _Queued, numbers: list[float]) -> DeepValues:
    """The values of one window from g = s + f: consumed g, stale s, fresh f."""
    consumed = math.hypot(*numbers) if not item.stale else numbers[0]
    if not item.stale:
        cosine = 1.0 if consumed > 0.0 and math.isfinite(consumed) else None
        return DeepValues(consumed, consumed, 0.0, cosine, item.learning_rate, item.windows_mixed)
    _, rest, stale, fresh, along = numbers
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

"""How far one optimizer's steps move its parameters, estimated from a few numbers of each; and what it holds frozen."""

from __future__ import annotations

import math
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradkit.observe.tensors.buffers import Look
from gradkit.observe.tensors.checksums import changed, checksum, checksums
from gradkit.observe.tensors.known import Known
from gradkit.observe.tensors.measure import Reader, plain
from gradkit.observe.tensors.transforms import has_numbers

if TYPE_CHECKING:
    from torch.optim import Optimizer

SAMPLES = 64
"""Numbers taken of each parameter, evenly spread; a parameter of up to as many is taken whole."""
RATIOS = 20
"""Consecutive ratios of update to weights that are kept."""
BLOCK = 10
"""Steps queued before their numbers are read on a device that must be waited for; on a CPU they are read at once."""


class Sample:
    """Where the samples of a list of parameters lie; made once, taken before and after a step.

    Args:
        parameters: The parameters; those without numbers or with freed storage are left out of a sample.
    """

    def __init__(self, parameters: list[Tensor]) -> None:
        self._kinds: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, int]]] = {}
        for parameter in parameters:
            local = plain(parameter.detach())
            if local.numel() and has_numbers(local):
                stride = max(1, local.numel() // SAMPLES)
                self._kinds.setdefault((local.device, local.dtype), []).append((parameter, stride))
        self._shares: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @property
    def waits(self) -> bool:
        """Whether reading a number means waiting for a device."""
        return any(device.type != "cpu" for device, _ in self._kinds)

    def take(self) -> list[Tensor]:
        """One vector of samples per device and dtype, copied."""
        taken = []
        for kind, places in self._kinds.items():
            parts = [plain(parameter.detach()).reshape(-1)[::stride] for parameter, stride in places]
            if kind not in self._shares:
                # Device and dtype are named: the user may have set defaults of their own.
                shares = [
                    torch.full(
                        (len(part),), plain(parameter.detach()).numel() / len(part), dtype=torch.float32, device=kind[0]
                    )
                    for part, (parameter, _) in zip(parts, places, strict=True)
                ]
                self._shares[kind] = torch.cat(shares)
            taken.append(torch.cat(parts) if len(parts) > 1 else parts[0].clone())
        return taken

    def compare(self, before: list[Tensor], after: list[Tensor]) -> list[Tensor]:
        """0-d tensors on the first device: samples changed, squared norm of the change, squared norm before."""
        totals: list[Tensor] = []
        for share, old, new in zip(self._shares.values(), before, after, strict=True):
            wide = torch.float64 if old.dtype in (torch.float64, torch.complex128) else torch.float32
            moved = (new != old).sum().to(wide)
            squares = [(share * (new - old).abs().to(wide).square()).sum(), (share * old.abs().to(wide).square()).sum()]
            part = torch.stack([moved, *squares])
            totals = [part] if not totals else [totals[0] + part.to(totals[0].device, totals[0].dtype)]
        return list(totals[0].unbind()) if totals else []


@dataclass(slots=True)
class Row:
    """One measured step: its number, learning rate, and what was queued."""

    step: int
    rate: float | None
    scheduled_zero: bool
    numbers: list[Tensor]
    gradients: bool
    loss: bool


@dataclass(slots=True)
class Motion:
    """The measured steps of one optimizer.

    Attributes:
        parameters: Its parameters while it is looked at; between looks nothing of the run is kept alive.
        known: Weak references to them, in order.
        sample: Where their samples lie, made when the first ones are taken in a look.
        start: Checksums of all of them before the first measured step.
        moves: A step was seen to change something.
        still: Measured steps with gradients that changed nothing, at a learning rate other than 0.
        stopped: The same at a learning rate of exactly 0.
        ratios: Update over weights of consecutive measured steps; infinite once either is not finite.
        changes: 2-norms of those updates.
        losses: The first loss of each of those steps' windows, NaN where there was none.
        first_size: 2-norm of the weights before the first step of all.
        first_loss: The loss of that step.
        sizes_told: How often its ratios were handed to the rules.
        sizes_told_at: The step of the last time.
    """

    parameters: list[Tensor]
    known: list[weakref.ref[Tensor]]
    sample: Sample | None
    start: list[Tensor | None]
    moves: bool = False
    still: int = 0
    stopped: int = 0
    last_rate: float | None = None
    gradient_norm: float = 0.0
    weight_norm: float = 0.0
    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=RATIOS))
    changes: deque[float] = field(default_factory=lambda: deque(maxlen=RATIOS))
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=RATIOS))
    first_size: float | None = None
    first_loss: float = math.nan
    sizes_told: int = 0
    sizes_told_at: int = -RATIOS
    rows: list[Row] = field(default_factory=list)
    before: list[Tensor] | None = None

    @classmethod
    def of(cls, optimizer: Optimizer) -> Motion:
        """Begin with an optimizer that is about to step."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return cls(parameters, list(map(weakref.ref, parameters)), None, checksums(parameters))

    def resume(self, optimizer: Optimizer) -> bool:
        """Go on with the optimizer it began with; False when that holds other parameters now."""
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if len(held) != len(self.known) or any(
            known() is not item for known, item in zip(self.known, held, strict=True)
        ):
            return False
        if not self.parameters:
            self.parameters = held
        return True

    @property
    def waits(self) -> bool:
        """Whether reading its numbers means waiting for a device."""
        return self.sample is not None and self.sample.waits

    def take(self) -> None:
        """Take the samples before a step."""
        if self.sample is None:
            self.sample = Sample(self.parameters)
        self.before = self.sample.take()

    def release(self) -> None:
        """Let go of the parameters and of what is half measured until the next look."""
        self.parameters, self.sample, self.before = [], None, None
        self.rows.clear()
        self._forget_sizes()

    def _forget_sizes(self) -> None:
        for numbers in (self.ratios, self.changes, self.losses):
            numbers.clear()

    def measure(self, optimizer: Optimizer, step: int, loss: Tensor | None, reader: Reader) -> None:
        """Queue the numbers of a step that is over; `before` was taken when it began."""
        if self.before is None or self.sample is None:
            return
        with torch.no_grad():
            numbers = self.sample.compare(self.before, self.sample.take())
        self.before = None
        if not numbers:
            return
        gradients = [parameter.grad.detach() for parameter in self.parameters if parameter.grad is not None]
        measured = bool(gradients) and not self.moves
        if measured:
            norms = [norm.to(numbers[0].device, numbers[0].dtype) for norm in reader.norms(gradients)]
            numbers.append(torch.linalg.vector_norm(torch.stack(norms)))
        rates = [group.get("lr") for group in optimizer.param_groups]
        if loss is not None:
            numbers.append(loss)
        self.rows.append(Row(step, largest(rates), _is_scheduled_zero(optimizer), numbers, measured, loss is not None))

    def read(self, reader: Reader) -> None:
        """Bring the queued numbers to the host and count."""
        rows, self.rows = self.rows, []
        values = iter(reader.read([number for row in rows for number in row.numbers]))
        for row in rows:
            moved, change, size, *rest = [next(values) for _ in row.numbers]
            loss = rest.pop() if row.loss else math.nan
            self.weight_norm = math.sqrt(size) if size >= 0.0 else size
            if row.loss and math.isnan(loss):
                loss = math.inf  # no better than an infinite one; NaN here means that there was none
            if self.first_size is None:
                self.first_size, self.first_loss = self.weight_norm, loss
            if not math.isfinite(size + change):
                size, change = 1.0, math.inf  # the weights are lost, by this step or an earlier one
            if size > 0.0 and change >= 0.0:
                self.ratios.append(math.sqrt(change / size))
                self.changes.append(math.sqrt(change))
                self.losses.append(loss)
            else:
                self._forget_sizes()
            self._count_still(row, moved, rest[0] if rest else 0.0)
            self.last_rate = row.rate

    def _count_still(self, row: Row, moved: float, gradient_norm: float) -> None:
        if moved != 0.0:
            self.moves = True
        rising = row.rate is not None and self.last_rate is not None and row.rate > self.last_rate
        if self.moves or rising or (row.scheduled_zero and row.rate != 0.0):
            self.still = self.stopped = 0
        elif row.gradients and 0.0 < gradient_norm < float("inf"):
            if row.rate == 0.0:
                self.stopped += 1
            else:
                self.still += 1
            self.gradient_norm = gradient_norm

    @property
    def against_start(self) -> tuple[float, ...]:
        """The kept updates over the first weights; empty when those were zero."""
        first = self.first_size
        return tuple(change / first for change in self.changes) if first else ()

    def identical(self, reader: Reader) -> bool:
        """Whether every parameter is bit-identical to how it was before the first measured step."""
        differ = changed(self.start, checksums(self.parameters), reader)
        self.moves = self.moves or any(item is not False for item in differ)
        return not self.moves


def largest(rates: list[Any]) -> float | None:
    """The largest learning rate, None when one of them lies on a device or is missing."""
    numbers = [rate for rate in rates if isinstance(rate, (int, float)) or (isinstance(rate, Tensor) and rate.is_cpu)]
    return max(map(float, numbers)) if numbers and len(numbers) == len(rates) else None


def _is_scheduled_zero(optimizer: Optimizer) -> bool:
    """Whether the rate of some group is 0 only because a scheduler put it there for now, as a warmup from 0 does."""
    return any(
        (largest([group.get("lr")]) or 0.0) == 0.0 and (largest([group.get("initial_lr")]) or 0.0) > 0.0
        for group in optimizer.param_groups
    )


@dataclass(slots=True)
class Frozen:
    """One parameter that should stay, before a step that may move it.

    Attributes:
        parameter: The parameter.
        declared: It was declared frozen; otherwise it has no `requires_grad`, but a gradient.
        before: Its checksum before the step.
        gradient: Look and checksum of its gradient then.
        norm: Norm of that gradient.
    """

    parameter: Tensor
    declared: bool
    before: Tensor | None
    gradient: tuple[Look, Tensor | None]
    norm: Tensor | None

    @classmethod
    def of(cls, parameter: Tensor, declared: bool, reader: Reader) -> Frozen:
        """Look at a parameter before a step."""
        buffer = parameter.grad
        norm = None if buffer is None else reader.norms([buffer.detach()])[0]
        look = (Look(parameter), None if buffer is None else checksum(buffer))
        return cls(parameter, declared, checksum(parameter), look, norm)

    def stayed(self, reader: Reader) -> bool:
        """Whether the step's closure left it frozen and wrote nothing but zeros into its gradient."""
        buffer = self.parameter.grad
        if self.parameter.requires_grad or buffer is None:
            return False
        return Look(self.parameter) == self.gradient[0] or reader.read(reader.norms([buffer.detach()])) == [0.0]


def judge_frozen(
    looks: list[Frozen], earlier: list[Frozen], reader: Reader
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """After the step: the parameters it moved on a zero gradient, on a gradient of the step before, and declared ones.

    Args:
        looks: What was seen before the step.
        earlier: What was seen before the step before it, of each parameter.
        reader: Reads the numbers.
    """
    moved = changed([look.before for look in looks], checksums([look.parameter for look in looks]), reader)
    before = Known((look.parameter, look) for look in earlier)
    zero: list[Tensor] = []
    stale: list[Tensor] = []
    declared: list[Tensor] = []
    for look, has in zip(looks, moved, strict=True):
        if not has:
            continue
        if look.declared:
            declared.append(look.parameter)
        elif look.norm is not None and reader.read([look.norm])[0] == 0.0:
            zero.append(look.parameter)
        elif _is_same_gradient(look, before.get(look.parameter), reader):
            stale.append(look.parameter)
    return zero, stale, declared


def _is_same_gradient(now: Frozen, then: Frozen | None, reader: Reader) -> bool:
    if then is None or not now.gradient[0].is_as_left(then.gradient[0]):
        return False
    return changed([then.gradient[1]], [now.gradient[1]], reader) == [False]

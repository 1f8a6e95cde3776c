"""What steps did to weights, and when schedules moved."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradkit.records.places import Location, ParameterInfo
from gradkit.records.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Stillness(Record):
    """Steps of one optimizer that changed none of its parameters, from the first one seen on.

    Attributes:
        optimizer: Label of the optimizer.
        step: Number of its step.
        steps: Measured steps with finite gradients other than zero that left every parameter bit-identical.
        parameter_count: Parameters it holds.
        learning_rate: Largest learning rate of its groups; None when it is not a plain number.
        gradient_norm: 2-norm of the last gradient.
        weight_norm: Estimated 2-norm of the parameters.
        step_line: The user's line that stepped.
        created_line: The user's line that made the optimizer, where that was seen.
    """

    optimizer: str
    step: int
    steps: int
    parameter_count: int = 0
    learning_rate: float | None = None
    gradient_norm: float = 0.0
    weight_norm: float = 0.0
    step_line: Location | None = None
    created_line: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSizes(Record):
    """Sizes of consecutive updates of one optimizer, estimated from sampled numbers of every parameter.

    Attributes:
        optimizer: Label of the optimizer.
        step: Number of its last step.
        ratios: 2-norm of each update over the 2-norm of the parameters before it, oldest first; infinite from the step
            on at which either is not finite.
        against_start: The same updates over the 2-norm of the parameters before the optimizer's first step; empty when
            that was 0.
        losses: The first loss of each step's window, NaN where there was none.
        first_loss: The loss of the optimizer's first step.
        learning_rate: Largest learning rate of its groups; None when it is not a plain number.
        of_modules: Some of the parameters belong to a living module; otherwise inputs are learned.
        parameter_count: Parameters it holds.
        step_line: The user's line that stepped.
        created_line: The user's line that made the optimizer, where that was seen.
    """

    optimizer: str
    step: int
    ratios: tuple[float, ...]
    against_start: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    first_loss: float = math.nan
    learning_rate: float | None = None
    of_modules: bool = True
    parameter_count: int = 0
    step_line: Location | None = None
    created_line: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenUpdate(Record):
    """A step that changed parameters which were meant to stay.

    Attributes:
        optimizer: Label of the optimizer.
        step: Number of the step.
        zero: Parameters without `requires_grad` whose gradient was exactly zero: momentum or weight decay moved them.
        stale: Parameters without `requires_grad` whose gradient was, bit by bit, that of the step before.
        declared: Parameters declared frozen to `watch`.
        step_line: The user's line that stepped.
        created_line: The user's line that made the optimizer, where that was seen.
    """

    optimizer: str
    step: int
    zero: tuple[ParameterInfo, ...] = ()
    stale: tuple[ParameterInfo, ...] = ()
    declared: tuple[ParameterInfo, ...] = ()
    step_line: Location | None = None
    created_line: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleStep(Record):
    """A learning-rate scheduler that stepped before its optimizer did.

    Attributes:
        scheduler: Class name of the scheduler.
        optimizer: Label of its optimizer.
        skipped: Learning rate of the first group that no step ever used; None when it lies on a device.
        used: Learning rate of the first group at the first step.
        order: `"between"` when the backward whose gradients the first step consumed came before the scheduler's step;
            `"loop"` when the same line stepped the scheduler again after the optimizer had stepped.
        line: The user's line that stepped the scheduler.
        step_line: The user's line of the optimizer's first step.
    """

    scheduler: str
    optimizer: str
    skipped: float | None
    used: float | None
    order: str
    line: Location | None = None
    step_line: Location | None = None

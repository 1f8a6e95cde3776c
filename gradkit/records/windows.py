"""What went into one optimizer step: its window of micro-batches, and how windows follow one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gradkit.records.places import Location, ParameterInfo, Statement
from gradkit.records.record import Record


@dataclass(frozen=True, slots=True)
class DeepValues:
    """Numbers of one window that need the gradients' data; only in deep mode.

    Attributes:
        grad_norm_l2: 2-norm of the gradient the step consumed.
        fresh_norm_l2: 2-norm of the part this window's backward calls added.
        stale_norm_l2: 2-norm of the part earlier steps had consumed already.
        cosine: Cosine between the consumed and the fresh gradient; None when either is zero.
        effective_learning_rate: Learning rate of the first parameter group times (g . f) / (f . f), the projection of
            the consumed gradient g on the fresh gradient f: what plain gradient descent really used along f.
        windows_mixed: Largest number of windows any consumed buffer held.
    """

    grad_norm_l2: float
    fresh_norm_l2: float
    stale_norm_l2: float
    cosine: float | None
    effective_learning_rate: float | None
    windows_mixed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Record):
    """All micro-batches between two steps of one optimizer, written when its step consumes them.

    Written for every step in deep mode or for `on_window`, otherwise only when the step deserves a judgement.

    Attributes:
        optimizer: Label of the optimizer, such as `SGD` or `Adam#2`.
        step: Number of this optimizer step, from 0.
        parameter_count: Number of parameter tensors the optimizer holds.
        backwards: Backward calls of this window that deposited on them.
        backwards_anywhere: Backward calls of this window that deposited on anything.
        windows_mixed: Parameter name to the number of windows its consumed buffer held, where that is above 1. Proven:
            the data of an already consumed gradient was still there when a backward added to it.
        reused: The step consumed exactly the buffers its last step had consumed, and they came from a backward.
        empty: No parameter of the optimizer had a gradient, or all were exactly zero.
        consecutive_empty: How many steps in a row were empty, this one included.
        forward_recorded: Whether an autograd graph was seen being recorded in an empty window; None when unknown.
        trained_before: A backward deposited on this optimizer's parameters in some earlier window.
        cleared_deposits: Backward calls of this window whose gradients were cleared again before the step.
        cleared: Every gradient of this window was cleared before the step, which then had none.
        consecutive_cleared: How many steps in a row were `cleared`, this one included.
        cleared_finite: The cleared gradients were finite and not zero; None when that was not measured.
        clearing_is_conditional: The clearing statement stands under a condition of its own; None when it is unknown.
        accumulate: The declared number of micro-batches per window, if any.
        step_line: The user's line that stepped.
        backward_line: The user's line of the last backward that deposited.
        clearing: Statements that cleared, or should have cleared, the gradients.
        parameters: The parameters concerned, for findings.
        deep: Values of deep mode; None when the gradients were lost before they were read, as when a step raises.
    """

    optimizer: str
    step: int
    parameter_count: int = 0
    backwards: int = 0
    backwards_anywhere: int = 0
    windows_mixed: Mapping[str, int] = field(default_factory=dict)
    reused: bool = False
    empty: bool = False
    consecutive_empty: int = 0
    forward_recorded: bool | None = None
    trained_before: bool = False
    cleared_deposits: int = 0
    cleared: bool = False
    consecutive_cleared: int = 0
    cleared_finite: bool | None = None
    clearing_is_conditional: bool | None = None
    accumulate: int | None = None
    step_line: Location | None = None
    backward_line: Location | None = None
    clearing: tuple[Statement, ...] = ()
    parameters: tuple[ParameterInfo, ...] = ()
    deep: DeepValues | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass(Record):
    """One pass over a data loader that ended inside an accumulation window.

    Attributes:
        optimizer: Label of the optimizer.
        step: Number of its last step of the pass.
        batches: Batches of the pass, each of which was back-propagated.
        window: Micro-batches of every full window of the pass.
        full_windows: Full windows seen in the pass.
        left_over: Micro-batches after the last step of the pass.
        carried: They went into the first window of the next pass; False when they were thrown away.
        first_window: Micro-batches of that first window; None when they were thrown away.
        borders: Passes in a row that ended so, this one included.
        location: The user's line that steps.
    """

    optimizer: str
    step: int
    batches: int
    window: int
    full_windows: int
    left_over: int
    carried: bool
    first_window: int | None = None
    borders: int = 1
    location: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulation(Record):
    """Windows in which the gradients of several mean losses were added, and what the losses were divided by.

    Attributes:
        optimizer: Label of the optimizer.
        step: Number of the step that ended the last of the windows.
        micro_batches: Backward calls in each window.
        windows: Windows in a row that were looked at and found alike.
        divided: Each loss was divided by the number of micro-batches; False when by nothing at all.
        items: Items of each mean, per window, where the losses state them [count].
        declared: The user declared so many micro-batches; otherwise they were those of a pass over a data loader.
        batches: Batches of that pass; None when declared.
        reduction: Name of the node that took the mean.
        backward_line: The user's line that starts the backward.
    """

    optimizer: str
    step: int
    micro_batches: int
    windows: int
    divided: bool
    items: tuple[tuple[float, ...], ...] = ()
    declared: bool = False
    batches: int | None = None
    reduction: str = ""
    backward_line: Location | None = None

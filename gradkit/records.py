"""What the observer saw, as frozen values of plain numbers and text; imports no torch and nothing of gradkit.

One class per kind of record. A rule names the kind it reads (`Rule[Window]`) and is called only when one arrives, so a
kind nobody asks for costs nothing. New observers add new kinds here; the engine needs no change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the user's own source."""

    file: str
    line: int
    function: str
    via: str | None = None
    """The framework that made the call when the line is the nearest user code rather than the call itself."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A source statement that matters to a finding: where it stands, its text and why it is named."""

    location: Location
    text: str
    note: str


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """One parameter as a person would name it."""

    name: str
    shape: tuple[int, ...]
    module: str | None = None


@dataclass(frozen=True, slots=True)
class DeepValues:
    """Numbers of one window that need the gradients' data; only in deep mode.

    Attributes:
        grad_norm_l2: 2-norm of the gradient the step consumed.
        fresh_norm_l2: 2-norm of the part this window's backward calls added.
        stale_norm_l2: 2-norm of the part earlier steps had consumed already.
        cosine: Cosine between the consumed and the fresh gradient; None when either is zero.
        effective_learning_rate: Learning rate of the first parameter group times (g . f) / (f . f), the projection of
            the
            consumed gradient g on the fresh gradient f: what plain gradient descent really used along f.
        windows_mixed: Largest number of windows any consumed buffer held.
    """

    grad_norm_l2: float
    fresh_norm_l2: float
    stale_norm_l2: float
    cosine: float | None
    effective_learning_rate: float | None
    windows_mixed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
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
class Pass:
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
class Accumulation:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCensus:
    """How many back-propagated graphs of earlier steps were alive at one step, written each time the number has grown.

    Attributes:
        step: Optimizer steps so far.
        alive: Graphs of steps before the last one that are still alive, by their marks.
        growths: How many times in a row the number grew without ever falling.
        retained: Every backward of them was asked to retain its graph.
        revisited: Later backward calls have gone through some of them again, as truncated back-propagation through
            time does on purpose.
        total: The last backward went through the very losses of earlier steps, as that of a running total does.
        operation: The operation whose result is kept, such as `AddBackward0`.
        location: The user's line that computed what is kept.
        holder: What keeps it, such as `losses[12]`; None where Python does not tell.
        container: The container of `holder`, such as `losses`.
        length: Entries of the container.
        backward_line: The user's line of the last backward.
    """

    step: int
    alive: int
    growths: int
    retained: bool = False
    revisited: bool = False
    total: bool = False
    operation: str | None = None
    location: Location | None = None
    holder: str | None = None
    container: str | None = None
    length: int | None = None
    backward_line: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Backward calls of one line that kept their graph although nothing went through it again.

    Attributes:
        step: Optimizer steps so far.
        option: `retain_graph` or `create_graph`, the option that kept the graph.
        count: Backward calls of that line in a row whose graph was freed without a second use.
        nodes: Nodes of the last such graph.
        other_calls: A differentiation that has not run yet may follow while such a graph is alive.
        location: The user's line of the backward.
    """

    step: int
    option: str
    count: int
    nodes: int = 0
    other_calls: bool = False
    location: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeStep:
    """A step on gradients of forwards that all ran with the whole trained model in eval mode.

    Attributes:
        optimizer: Label of the optimizer.
        step: Number of its step.
        count: Such steps in a row, this one included.
        model: Type name of the model.
        layers: Dropout and batch-norm layers that ran in eval mode and that gradients flowed through, by type name.
        trained_before: Steps in train mode were seen before.
        step_line: The user's line that stepped.
        eval_line: The user's line that put the model in eval mode, where that was seen.
    """

    optimizer: str
    step: int
    count: int
    model: str
    layers: Mapping[str, int] = field(default_factory=dict)
    trained_before: bool = False
    step_line: Location | None = None
    eval_line: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPass:
    """A stretch of forwards of a trained model between two backward calls, none of which was back-propagated.

    Attributes:
        step: Optimizer steps so far.
        model: Type name of the model.
        training: Its mode.
        forwards: Forwards of the stretch.
        recorded: Those that recorded a graph, each proven unused.
        active_layers: Dropout and batch-norm layers that ran in train mode, by type name.
        ungoverned: Dropout that ran and that the model's mode does not govern, by type or function name: layers that
            are no part of the model, and functional calls (those of one forward).
        saved_bytes: Bytes saved for backward in all of them together, without parameters; None when not measured.
        seconds: Time from the first to the last forward [s].
        location: The user's line that called the model.
        dropout_line: The user's line of the first of `ungoverned`.
    """

    step: int
    model: str
    training: bool
    forwards: int
    recorded: int
    active_layers: Mapping[str, int] = field(default_factory=dict)
    ungoverned: Mapping[str, int] = field(default_factory=dict)
    saved_bytes: int | None = None
    seconds: float = 0.0
    location: Location | None = None
    dropout_line: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPath:
    """Parameters that an optimizer holds and whose result reached a loss only through a cut, proven in one window.

    Attributes:
        optimizer: Label of the optimizer.
        step: Number of its step.
        steps: Its steps in a row in which these parameters had no gradient while others had.
        parameters: The parameters behind this cut, by name.
        modules: The modules that own them.
        operation: The operation whose result carried no gradient, such as `detach`, `.data`, `argmax`, `linear`.
        cause: `operation` when the operation itself cuts, `no_grad` or `inference_mode` when gradients were off,
            `number` when the value left as a number or array and came back as a new tensor, `constant` when it left as
            a number that an operation took beside tensors, `leaf` when it was wrapped as a new leaf.
        whole_in_eval: Gradients were off and every module concerned was in eval mode, as for a frozen part.
        conditional: The cut stands under a condition of its own, or that is not known.
        location: The user's line of the cut.
        operation_line: The user's line of the operation, where it is another one.
    """

    optimizer: str
    step: int
    steps: int
    parameters: tuple[str, ...]
    modules: tuple[str, ...] = ()
    operation: str = ""
    cause: str = "operation"
    whole_in_eval: bool = False
    conditional: bool = False
    location: Location | None = None
    operation_line: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenWrite:
    """A parameter that was overwritten between its use in a forward and that forward's backward, unseen by autograd.

    Attributes:
        optimizer: Label of the optimizer that holds it.
        step: Number of its step.
        parameters: The parameters concerned, by name.
        operation: The operation that wrote, such as `mul_` or `.data =`.
        location: The user's line of the write.
        forward_line: The user's line of the use in the forward.
        backward_line: The user's line of the backward.
    """

    optimizer: str
    step: int
    parameters: tuple[str, ...]
    operation: str
    location: Location | None = None
    forward_line: Location | None = None
    backward_line: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Parameters that got gradients though no optimizer holds them, against what the optimizers do hold.

    Written once such parameters were seen in as many windows as a rule asks for; all of them belong to one model, were
    bit-identical over those windows and are held by no optimizer alive in the process.

    Attributes:
        optimizer: Label of the optimizer they are compared with.
        step: Number of its step.
        windows: Windows in which they got gradients and an optimizer stepped without them.
        model: Class name of the model they belong to.
        outside: The parameters, in the model's order.
        outside_numbers: Numbers (elements) in them.
        held: Parameters of the same model that took part in the loss and are held by an optimizer.
        held_numbers: Numbers in those.
        foreign: Nothing that took part in the loss is held by any optimizer, and nothing that `optimizer` holds got a
            gradient.
        owned: Parameters `optimizer` holds.
        idle: Those it holds that do not belong to this model and got no gradient.
        late: They began to take part after windows in which the rest of the model already did.
        container: The plain Python container, such as `layers`, through which alone the model reaches their modules.
        container_size: Modules in that container.
        upstream: They come before every held parameter of the model.
        evaluating: Their modules are in eval mode while modules of held parameters are in train mode.
        kept: Their gradients were added to window after window, and nobody cleared them.
        inputs_only: The optimizers hold no parameter of any module that took part: inputs are learned.
        created_line: The user's line that made the optimizer; None when it was made before gradkit watched.
        step_line: The user's line that stepped.
        backward_line: The user's line of the backward.
    """

    optimizer: str
    step: int
    windows: int
    model: str
    outside: tuple[ParameterInfo, ...]
    outside_numbers: int = 0
    held: int = 0
    held_numbers: int = 0
    foreign: bool = False
    owned: int = 0
    idle: tuple[ParameterInfo, ...] = ()
    late: bool = False
    container: str | None = None
    container_size: int = 0
    upstream: bool = False
    evaluating: bool = False
    kept: bool = False
    inputs_only: bool = False
    created_line: Location | None = None
    step_line: Location | None = None
    backward_line: Location | None = None

    @property
    def mostly_optimized(self) -> bool:
        """Whether at least half of the parameters that took part and more than half of their numbers are held."""
        return self.held >= len(self.outside) and self.held_numbers > self.outside_numbers

    @property
    def displaced(self) -> bool:
        """Whether something besides the missing parameters shows that they were meant to be optimized."""
        return bool(self.held and (self.idle or self.late)) or self.container_size > 1

    @property
    def trained_without(self) -> bool:
        """Whether the model is trained without them (GK401), not merely used (GK106) or mistaken (GK402)."""
        trained = self.displaced or (bool(self.held) and self.mostly_optimized)
        return trained and not self.foreign and not self.evaluating


@dataclass(frozen=True, slots=True, kw_only=True)
class Stillness:
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
class UpdateSizes:
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
class FrozenUpdate:
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
class ScheduleStep:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that could not be observed, and the rules that are silent because of it."""

    what: str
    silenced: tuple[str, ...]
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """An exception inside gradkit that was contained."""

    where: str
    error: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Totals of one watched run.

    Attributes:
        steps: Optimizer steps.
        backwards: Backward calls that accumulate into `.grad`.
        optimizers: Optimizers that stepped or were named.
        parameters: Distinct parameter tensors they hold.
        overhead_seconds: Measured time inside gradkit's reads of gradient data [s].
        reads: Times gradkit waited for gradient data.
        seconds: Time from start to stop [s].
    """

    steps: int = 0
    backwards: int = 0
    optimizers: int = 0
    parameters: int = 0
    overhead_seconds: float = 0.0
    reads: int = 0
    seconds: float = 0.0


Record = (
    Window
    | Pass
    | Accumulation
    | GraphCensus
    | Retention
    | ModeStep
    | EvaluationPass
    | CutPath
    | HiddenWrite
    | Membership
    | Stillness
    | UpdateSizes
    | FrozenUpdate
    | ScheduleStep
    | Gap
    | Crash
)

"""What became of autograd graphs: kept, retained, cut, or run backward over other weights."""

from __future__ import annotations

from dataclasses import dataclass

from gradkit.records.places import Location
from gradkit.records.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCensus(Record):
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
class Retention(Record):
    """Backward calls of one line that kept their graph although nothing went through it again.

    Attributes:
        step: Optimizer steps so far.
        option: `retain_graph` or `create_graph`, the option that kept the graph.
        count: Backward calls of that line in a row whose graph was freed without a second use.
        nodes: Nodes of the last such graph.
        location: The user's line of the backward.
    """

    step: int
    option: str
    count: int
    nodes: int = 0
    location: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPath(Record):
    """Parameters that an optimizer holds and whose result reached a loss only through a cut, proven in one window.

    Written at the end of the run, when it is known that none of them had a gradient in a later step either.

    Attributes:
        optimizer: Label of the optimizer.
        step: Number of its step at which the cut was proven.
        steps: Its steps in a row in which these parameters had no gradient, up to the last one that was seen.
        parameters: The parameters behind this cut, by name.
        modules: The modules that own them.
        operation: The operation whose result carried no gradient, such as `detach`, `.data`, `argmax`, `linear`.
        cause: `operation` when the operation itself cuts, `no_grad` or `inference_mode` when gradients were off,
            `number` when the value left as a number or array and came back as a new tensor, `constant` when it left as
            a number that an operation took beside tensors, `leaf` when it was wrapped as a new leaf, `backward` when
            the graph leads to the parameters but a custom function's own backward returns None for them, `loss` when
            the loss was a new leaf and nothing is known of where its value came from.
        further: Other operations of the same place that lost a gradient, as the layers of a part that ran without.
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
    further: tuple[str, ...] = ()
    whole_in_eval: bool = False
    conditional: bool = False
    location: Location | None = None
    operation_line: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenWrite(Record):
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

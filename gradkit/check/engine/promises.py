"""What a training loop takes for granted of a backward pass: the promises an autograd function has to keep."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gradkit.check.engine.backward import Graph, same
from gradkit.check.engine.errors import MethodError
from gradkit.check.engine.methods import Engine, by_reverse
from gradkit.check.engine.result import Line
from gradkit.check.engine.subject import Subject

MAY_CAUSE_STRIDED = (
    "What may cause it: `view` where `reshape` is needed, a kernel that reads memory in storage order, or a cotangent"
    " that is written into."
)


class Backward:
    """Gradients of one forward, each as if it were the first one asked for.

    A function whose backward pass leaves something changed gets a new forward for each, so that one fault does not
    show in every line.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.graph = Graph(subject)
        self.steady = True

    def __call__(self, cotangents: Sequence[Tensor | None]) -> Tensor:
        """The gradient, `(n,)`, float64, on the CPU."""
        return (self.graph if self.steady else Graph(self.subject)).backward(cotangents)


def promises(engine: Engine) -> Iterator[Line]:
    """One line for each promise; nothing where there is no finite gradient, which the gradient's own check says."""
    subject = engine.subject
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            bound = engine.measure(by_reverse, subject.size).rounding.cpu()
            backward = Backward(subject)
            whole: list[Tensor | None] = list(subject.cotangents)
            first = backward(whole)
        except MethodError:
            return
        if not bool(first.isfinite().all()):
            return
        exact = torch.zeros_like(bound)
        yield _left_alone(backward.graph)
        twice = _twice(backward, whole, first, exact)
        yield twice
        backward.steady = twice.verdict == "pass"
        if not backward.steady and not _same_at_every_forward(backward, whole, first):
            yield Line(
                "the other promises",
                "inconclusive",
                {},
                "New forwards with the same inputs and random state gave other gradients, so none can be compared.",
            )
            return
        yield same(
            "twice the cotangent",
            lambda: backward([_scaled(c, 2.0) for c in whole]) / 2,
            first,
            exact,
            "The gradient is not linear in the cotangent.",
            "Multiply by the cotangent once, everywhere.",
        )
        yield same(
            "zero cotangent",
            lambda: backward([_scaled(c, 0.0) for c in whole]),
            torch.zeros_like(first),
            exact,
            "A cotangent of zero gave a gradient.",
            "Multiply every term by the cotangent.",
        )
        yield same(
            "strided cotangent",
            lambda: backward([_strided(c) for c in whole]),
            first,
            2 * bound,
            "A cotangent that is not contiguous gave another gradient.",
            MAY_CAUSE_STRIDED,
        )
        yield _expanded_line(engine, backward, bound)
        if len(subject.slots) > 1:
            yield from _one_input_at_a_time(subject, whole, first, bound)


def _left_alone(graph: Graph) -> Line:
    name = "cotangent left as it was"
    if not graph.wrote_cotangent:
        return Line(name, "pass")
    return Line(
        name,
        "fail",
        {},
        "The backward pass wrote into the cotangent it was given, which other functions may be given too.",
        "Compute a new tensor instead of changing grad_output in place.",
    )


def _twice(backward: Backward, whole: Sequence[Tensor | None], first: Tensor, exact: Tensor) -> Line:
    line = same("backward called twice", lambda: backward(whole), first, exact, "The second call differs.", None)
    graph = backward.graph
    if line.verdict != "fail":
        return line
    if graph.drew:
        names = " and ".join(sorted(graph.drew))
        why = f"the backward pass draws random numbers itself (generator: {names}), new ones each time"
        advice = "Draw in the forward pass, and keep what was drawn with save_for_backward."
    elif graph.wrote_saved:
        why = "the backward pass overwrites a tensor that the forward pass saved"
        advice = "Do not write into saved tensors."
    else:
        why = ""
        advice = (
            "What may cause it: a tensor kept in `ctx` or outside of it that the backward pass changes, a saved buffer"
            " that is freed or used again, or an order of additions that changes."
        )
    told = line.reason.removeprefix("The second call differs.").strip()
    fact = "The second call gave another gradient" + (f": {why}." if why else ".")
    return Line(line.subject, "fail", line.measured, f"{fact} {told}", advice)


def _same_at_every_forward(backward: Backward, whole: Sequence[Tensor | None], first: Tensor) -> bool:
    again = Graph(backward.subject).backward(whole)
    return bool(torch.equal(again, first))


def _expanded_line(engine: Engine, backward: Backward, bound: Tensor) -> Line:
    name = "expanded cotangent"
    cotangents = engine.subject.cotangents
    ones: list[Tensor | None] = [torch.ones_like(c) for c in cotangents]
    try:
        plain = backward(ones)
    except MethodError as error:
        return Line(name, "fail", {}, f"With a cotangent of ones {error}.")
    if backward.graph.wrote_cotangent:
        return Line(name, "skipped", {}, "The cotangent is written into, which an expanded one does not allow.")
    return same(
        name,
        lambda: backward([_expanded(c) for c in cotangents]),
        plain,
        2 * bound + 4 * engine.fmt.unit_roundoff * plain.abs(),
        "A cotangent expanded from one number, as `sum()` gives it, led to another gradient.",
        MAY_CAUSE_STRIDED,
    )


def _one_input_at_a_time(
    subject: Subject, whole: Sequence[Tensor | None], first: Tensor, bound: Tensor
) -> Iterator[Line]:
    for place, slot in enumerate(subject.slots):
        yield same(
            f"only {slot.name} requires a gradient",
            lambda place=place: Graph(subject, only=place).backward(whole),  # type: ignore[misc]
            first[slot.span],
            2 * bound[slot.span],
            "The gradient is another one when the other inputs require none.",
            "Look at ctx.needs_input_grad: each answer must not depend on the others.",
        )


def _scaled(cotangent: Tensor | None, factor: float) -> Tensor | None:
    return None if cotangent is None else cotangent * factor


def _strided(cotangent: Tensor | None) -> Tensor | None:
    """The same values at every second place in memory."""
    if cotangent is None:
        return None
    # One unused column more keeps rows apart, so that `view(-1)` fails on it as it does on a transposed tensor.
    shape = cotangent.shape if cotangent.dim() else (1,)
    room = torch.full((*shape[:-1], shape[-1] + 1, 2), torch.nan, dtype=cotangent.dtype, device=cotangent.device)
    strided = room[..., :-1, 0]
    strided.copy_(cotangent)
    return strided if cotangent.dim() else strided[0]


def _expanded(cotangent: Tensor) -> Tensor:
    """Ones that share one place in memory."""
    return torch.ones((), dtype=cotangent.dtype, device=cotangent.device).expand(cotangent.shape)

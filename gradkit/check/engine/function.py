"""`gradkit.check.function`: a custom `torch.autograd.Function` and the promises its backward pass has to keep."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gradkit.check.engine.backward import Graph, same
from gradkit.check.engine.bounds import FALSE_ALARM, REPLAYS
from gradkit.check.engine.errors import CheckInputError, MethodError
from gradkit.check.engine.gradients import gradients
from gradkit.check.engine.methods import build, by_reverse
from gradkit.check.engine.precision import short_name
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.result import CheckResult, Line
from gradkit.check.engine.result import finding as a_finding
from gradkit.check.engine.subject import Subject
from gradkit.findings import Finding


def function(
    custom: type[torch.autograd.Function],
    inputs: Any,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    order: int = 2,
    seed: int = 0,
    replays: int = REPLAYS,
    false_alarm: float = FALSE_ALARM,
) -> CheckResult:
    """Check a custom autograd function: its gradient, and how its backward pass behaves.

    Args:
        custom: The class; called as `custom.apply(*inputs)`.
        inputs: Its arguments, as a tuple or list; a single tensor stands for itself.
        dtype: What floating inputs are cast to; None keeps theirs.
        device: Where to compute.
        order: 2 to check the gradient of its gradient too, unless it is declared `once_differentiable`.
        seed: Of cotangents, directions and roundings.
        replays: Computations with random rounding per bound.
        false_alarm: Probability that rounding alone fails a correct function.

    Returns:
        The lines of `gradients` for both orders, and one for each property: the same gradient when called twice on one
        graph, for a cotangent that is not contiguous or expanded, twice the gradient for twice the cotangent, zero for
        zero, the same gradient when only some inputs require one, and additivity over several outputs.

    Raises:
        CheckInputError: Not a subclass of `torch.autograd.Function`, or inputs that cannot be checked.
    """
    if not (isinstance(custom, type) and issubclass(custom, torch.autograd.Function)):
        raise CheckInputError(f"expected a subclass of torch.autograd.Function, got {custom!r}.")
    arguments = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)

    def apply(*values: Any) -> Any:
        return custom.apply(*values)

    title = f"autograd function {custom.__name__}"
    lines: list[Line] = []
    findings: list[Finding] = []
    notes: list[str] = []
    for each in range(1, order + 1):
        found = gradients(
            apply,
            arguments,
            dtype=dtype,
            device=device,
            order=each,
            cotangent="random",
            seed=seed,
            replays=replays,
            false_alarm=false_alarm,
            name=title if each == 1 else f"{title}, second order",
        )
        if each == 2 and "once_differentiable" in str(found.lines):
            lines.append(Line("second order", "skipped", {}, "The backward pass is declared once_differentiable."))
            break
        prefix = "" if each == 1 else "second order, "
        lines += [
            Line(f"{prefix}{line.subject}", line.verdict, line.measured, line.reason, line.advice) for line in found
        ]
        findings += found.findings
        notes += [note for note in found.notes if note not in notes]
    with random_state_kept():
        subject = Subject(apply, arguments, dtype=dtype, device=device, cotangent="random", seed=seed)
        promised = list(_promises(subject, seed, replays, false_alarm))
    lines += promised
    findings += [
        a_finding("GK601", f"{title}: {line.subject}: {line.reason}", line.advice, dict(line.measured))
        for line in promised
        if line.verdict == "fail"
    ]
    settings = {"dtype": short_name(subject.dtype), "device": str(subject.device), "seed": seed}
    return CheckResult(title, lines, findings, notes, settings, ("elements", "max_abs", "max_ulp", "of_bound"))


def _promises(subject: Subject, seed: int, replays: int, false_alarm: float) -> Iterator[Line]:
    engine = build(subject, None, seed=seed, replays=replays, false_alarm=false_alarm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            bound = engine.measure(by_reverse, subject.size).rounding.cpu()
            graph = Graph(subject)
            whole: list[Tensor | None] = list(subject.cotangents)
            first = graph.backward(whole)
        except MethodError:
            return  # said already by the check of the gradient
        if not bool(first.isfinite().all()):
            return
        exact = torch.zeros_like(bound)
        yield same(
            "backward called twice",
            lambda: graph.backward(whole),
            first,
            exact,
            "The second call gave another gradient: a saved buffer was overwritten.",
            "Do not write into saved tensors; keep state in `ctx` only through save_for_backward.",
        )
        yield same(
            "twice the cotangent",
            lambda: graph.backward([_scaled(c, 2.0) for c in whole]) / 2,
            first,
            exact,
            "The gradient is not linear in the cotangent.",
            "Multiply by the cotangent once, everywhere.",
        )
        yield same(
            "zero cotangent",
            lambda: graph.backward([_scaled(c, 0.0) for c in whole]),
            torch.zeros_like(first),
            exact,
            "A cotangent of zero gave a gradient.",
            "Multiply every term by the cotangent.",
        )
        yield same(
            "strided cotangent",
            lambda: graph.backward([_strided(c) for c in whole]),
            first,
            2 * bound,
            "A cotangent that is not contiguous gave another gradient.",
            "Use reshape instead of view, and do not read memory in storage order.",
        )
        ones: list[Tensor | None] = [torch.ones_like(c) for c in subject.cotangents]
        try:
            plain = graph.backward(ones)
            yield same(
                "expanded cotangent",
                lambda: graph.backward([_expanded(c) for c in subject.cotangents]),
                plain,
                2 * bound + 4 * engine.fmt.unit_roundoff * plain.abs(),
                "A cotangent expanded from one number, as `sum()` gives it, led to another gradient.",
                "Do not write into the cotangent, and use reshape instead of view.",
            )
        except MethodError as error:
            yield Line("expanded cotangent", "fail", {}, f"{error}.", "Use reshape instead of view.")
        if len(subject.slots) > 1:
            yield from _one_input_at_a_time(subject, first, bound)


def _one_input_at_a_time(subject: Subject, first: Tensor, bound: Tensor) -> Iterator[Line]:
    for place, slot in enumerate(subject.slots):
        yield same(
            f"only {slot.name} requires a gradient",
            lambda place=place: Graph(subject, only=place).backward(list(subject.cotangents)),
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

"""`gradkit.check.function`: a custom `torch.autograd.Function` and the promises its backward pass has to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gradkit.check.engine.bounds import FALSE_ALARM, REPLAYS
from gradkit.check.engine.errors import ChangedInputError, CheckInputError, MethodError
from gradkit.check.engine.gradients import gradients
from gradkit.check.engine.methods import Method, backward_runs, build, by_reverse
from gradkit.check.engine.precision import short_name
from gradkit.check.engine.promises import promises
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.result import CheckResult, Line
from gradkit.check.engine.result import finding as a_finding
from gradkit.check.engine.subject import Function, Subject
from gradkit.findings import Finding


def function(
    custom: type[torch.autograd.Function],
    inputs: Any,
    *,
    reference: Function | None = None,
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
        reference: The function whose gradient the backward pass is meant to give, where that is not the gradient of
            its own forward: the identity for a straight-through estimator, `lambda x: -x` for a gradient reversal.
            Takes the same inputs. The second order is then that of the backward pass itself.
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
    if reference is not None:
        named = getattr(reference, "__qualname__", type(reference).__name__)
        notes.append(f"the backward pass was compared with the gradient of reference={named}.")
    for each in range(1, order + 1):
        try:
            found = gradients(
                apply,
                arguments,
                dtype=dtype,
                device=device,
                order=each,
                cotangent="random",
                reference=reference if each == 1 else None,
                seed=seed,
                replays=replays,
                false_alarm=false_alarm,
                name=title if each == 1 else f"{title}, second order",
            )
        except ChangedInputError as error:
            return _undeclared(title, error)
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
        engine = build(subject, None, seed=seed, replays=replays, false_alarm=false_alarm, methods=_ways(subject))
        promised = list(promises(engine))
    lines += promised
    findings += _broken(title, promised)
    settings = {"dtype": short_name(subject.dtype), "device": str(subject.device), "seed": seed}
    return CheckResult(title, lines, findings, notes, settings, ("elements", "max_abs", "max_ulp", "of_bound"))


def _ways(subject: Subject) -> tuple[Method, ...]:
    return () if isinstance(backward_runs(subject), MethodError) else (by_reverse,)


def _broken(title: str, lines: Sequence[Line]) -> list[Finding]:
    return [
        a_finding("GK601", f"{title}: {line.subject}: {line.reason}", line.advice, dict(line.measured))
        for line in lines
        if line.verdict == "fail"
    ]


def _undeclared(title: str, error: ChangedInputError) -> CheckResult:
    """The result for a forward pass that changes an input without a word, after which no gradient of it is defined."""
    fact = str(error).partition(";")[0]
    line = Line(
        "inputs left as they were",
        "fail",
        {},
        f"{fact[:1].upper()}{fact[1:]} and does not declare it.",
        "Write the result into a new tensor, or call ctx.mark_dirty(x) and return x.",
    )
    return CheckResult(title, [line], _broken(title, [line]))

"""Lines on what stands in the way of a comparison: no gradient, an overwritten input, other outputs each time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gradkit.check.engine.errors import MethodError, ReplayError, UnsupportedError
from gradkit.check.engine.result import Line
from gradkit.check.engine.subject import Subject


def without_gradient(key: str, error: MethodError) -> Line:
    """The line for a method that gave no gradient."""
    if "once_differentiable" in str(error):
        return Line(key, "skipped", {}, "The backward pass is declared once_differentiable.")
    told = f"{str(error)[:1].upper()}{str(error)[1:]}."
    if isinstance(error, ReplayError):
        return Line(key, "inconclusive", {}, f"{told} It was gradkit's own computation, so no bound is known.")
    if isinstance(error, UnsupportedError) or key == "second order":
        return Line(key, "inconclusive", {}, f"No gradient could be had: {error}.")
    return Line(key, "fail", {}, f"No gradient: {error}.")


def overwritten(names: Sequence[str]) -> Line:
    """The line on inputs that the forward pass changed behind autograd's back."""
    return Line(
        "inputs left as they were",
        "fail",
        {"inputs": len(names)},
        f"The forward pass overwrote {', '.join(names)}: the bits differ after the call, and autograd was not told.",
        "Write the result into a new tensor, or declare the change with ctx.mark_dirty.",
    )


def unless_other_outputs(subject: Subject, lines: Sequence[Line]) -> list[Line]:
    """The lines; those that did not pass are inconclusive where the function returns other outputs at its next call."""
    doubted = [line for line in lines if line.verdict in ("fail", "inconclusive") and line.measured.get("kind")]
    apart = subject.other_outputs() if doubted else None
    if apart is None:
        return list(lines)
    reason = f"Two calls with the same inputs and random state gave outputs {apart:.3g} apart; no gradient is defined."
    advice = "Keep what the function draws or stores the same in every call, for instance by a fixed seed."
    return [
        dataclasses.replace(line, verdict="inconclusive", reason=reason, advice=advice) if line in doubted else line
        for line in lines
    ]

"""Tells a wrong gradient from one taken on the other side of a corner, because rounding moved a value across it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradkit.check.engine.leaves import first_line
from gradkit.check.engine.precision import short_name
from gradkit.check.engine.result import Line

if TYPE_CHECKING:
    from gradkit.check.engine.methods import Engine

# Elementwise operators with a corner or a jump where their first argument changes sign.
SIGNED = frozenset({"relu", "threshold", "abs", "sign", "leaky_relu", "prelu", "_prelu_kernel", "elu", "celu", "selu"})

# Those whose corner lies where the result stops being the first argument.
PASSING = frozenset({"clamp", "clamp_min", "clamp_max", "hardtanh", "maximum", "minimum", "fmax", "fmin", "relu6"})

# Those that jump: the result itself is the decision.
STEPPED = frozenset({"floor", "ceil", "round", "trunc", "frac", "heaviside", "hardswish", "hardsigmoid"})


class Decisions(TorchDispatchMode):
    """Records on which side of every corner, comparison and choice a computation went."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.taken: list[tuple[str, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0].removesuffix("_")
        first = args[0] if args and isinstance(args[0], Tensor) and args[0].is_floating_point() else None
        before = first.clone() if first is not None and name in SIGNED | PASSING else None
        out = func(*args, **(kwargs or {}))
        if before is not None and name in SIGNED:
            self.taken.append((name, before > 0))
        elif before is not None and isinstance(out, Tensor) and out.shape == before.shape:
            self.taken.append((name, out == before))
        elif first is not None and name in STEPPED:
            self.taken.append((name, out.double()))
        elif first is not None:
            for each in tree_leaves(out):
                if isinstance(each, Tensor) and not each.is_floating_point() and not each.is_complex():
                    self.taken.append((name, each.clone()))
        return out


def explained_by_corners(engine: Engine, line: Line) -> Line:
    """The line itself, or an inconclusive one when its error is one of rounding across a corner.

    Only lines whose formula holds in the finer dtype are looked at: there the same code, on the same inputs, agrees
    with the differences. If the coarse computation then took other branches, it is the gradient of another piece of
    the function, which no bound on smooth rounding covers.
    """
    if line.verdict != "fail" or line.measured.get("kind") != "rounding":
        return line
    dtype = short_name(engine.subject.dtype)
    try:
        coarse, fine = (_decisions(engine, each) for each in (None, engine.fine))
    except Exception as error:  # the code does not run while it is followed, which says nothing on its gradient
        reason = f"In {dtype} it could not be followed whether rounding crossed a corner: {first_line(error)}."
        return dataclasses.replace(line, verdict="inconclusive", reason=f"{line.reason} {reason}")
    if [name for name, _ in coarse] != [name for name, _ in fine]:
        apart, where = 0, ""
        reason = "the computation takes other operators in the two dtypes"
    else:
        differing = [
            (name, int((one != two).sum()))
            for (name, one), (_, two) in zip(coarse, fine, strict=True)
            if one.shape == two.shape and bool((one != two).any())
        ]
        if not differing:
            return line
        apart, where = sum(count for _, count in differing), differing[0][0]
        reason = f"rounding put {apart} value(s) on the other side of a corner or comparison, the first in `{where}`"
    measured = {**line.measured, "kind": "corner", "crossed": apart}
    return dataclasses.replace(
        line,
        verdict="inconclusive",
        measured=measured,
        reason=f"In {dtype} {reason}; the formula holds in a finer dtype.",
        advice="Move the point, or check in a finer dtype.",
    )


def _decisions(engine: Engine, dtype: torch.dtype | None) -> list[tuple[str, Tensor]]:
    mode = Decisions()
    with engine.subject.computing_under(mode):
        engine.subject.values(dtype)
    return mode.taken

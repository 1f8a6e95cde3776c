"""The verdict on numbers: a method's derivatives against the reference, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradkit.check.engine.differences import Difference
from gradkit.check.engine.precision import Format, short_name, spacing
from gradkit.check.engine.result import Line, Verdict
from gradkit.check.engine.shares import of_bound, shares


@dataclass(frozen=True)
class Reference:
    """What the derivatives should be: float64 tensors of one shape `(k,)`.

    Attributes:
        value: The derivatives.
        error: Bound of their own error; infinite where there is none.
        left: Slopes from below.
        right: Slopes from above.
        kink: Where the two do not meet.
        raised: What the function raised beside the point, if it did.
    """

    value: Tensor
    error: Tensor
    left: Tensor
    right: Tensor
    kink: Tensor
    raised: str | None = None

    @classmethod
    def of(cls, found: Sequence[Difference], device: torch.device, raised: str | None = None) -> Reference:
        """The reference from differences, in their order."""

        def column(name: str) -> Tensor:
            return torch.tensor([getattr(each, name) for each in found], dtype=torch.float64, device=device)

        kink = torch.tensor([each.kink for each in found], dtype=torch.bool, device=device)
        return cls(column("value"), column("error"), column("left"), column("right"), kink, raised)

    def at(self, part: slice) -> Reference:
        """The reference for some of the elements."""
        return Reference(
            self.value[part], self.error[part], self.left[part], self.right[part], self.kink[part], self.raised
        )


@dataclass(frozen=True)
class Measured:
    """What one method gave: float64 tensors of one shape `(k,)`.

    Attributes:
        value: In the dtype of the check.
        rounding: Bound of the rounding error of `value`.
        formula: The same method in the dtype of the reference.
        formula_rounding: Bound of the rounding error of `formula`.
    """

    value: Tensor
    rounding: Tensor
    formula: Tensor
    formula_rounding: Tensor

    def at(self, part: slice) -> Measured:
        """The numbers for some of the elements."""
        return Measured(*(each[part] for each in (self.value, self.rounding, self.formula, self.formula_rounding)))


def judge(
    subject: str,
    measured: Measured,
    reference: Reference,
    *,
    fmt: Format,
    fine: torch.dtype,
    shape: Sequence[int] | None,
    cause: str | None = None,
    scale: float = 0.0,
) -> Line:
    """One line on all elements of one input.

    Args:
        subject: Names method and input.
        measured: What the method gave, `(k,)`.
        reference: What it should be.
        fmt: Format of the check, for ULPs.
        fine: The dtype in which the formula was computed.
        shape: To turn the flat place of an element into an index; None for random directions.
        cause: What made the result non-finite or another one, if it was found out.
        scale: Natural size of the derivatives, where sums of them may cancel; at least the largest of them counts.
    """
    if measured.value.numel() == 0:
        return Line(subject, "pass", {"elements": 0}, "No elements.")
    error = (measured.value - reference.value).abs()
    bound = reference.error + measured.rounding
    formula_error = (measured.formula - reference.value).abs()
    formula_bound = reference.error + measured.formula_rounding
    usable = reference.value.isfinite() & reference.error.isfinite()
    finite = measured.value.isfinite()
    wrong_formula = usable & ~(formula_error <= formula_bound) & measured.formula.isfinite()
    beyond = usable & finite & ~(error <= bound)
    between = reference.kink & _between(measured, reference, bound)
    scale = max(scale, float(reference.value[usable].abs().max()) if bool(usable.any()) else 0.0)

    kinds: list[tuple[str, Tensor]] = [
        ("non-finite", usable & ~finite),
        ("formula", wrong_formula & ~between),
        ("rounding", beyond & ~between),
        ("undefined", ~usable),
        ("kink", between),
        ("lucky", finite & ~measured.rounding.isfinite()),
        ("blunt", (bound > scale) & (scale > 0.0)),
    ]
    kind, where = next(((name, mask) for name, mask in kinds if bool(mask.any())), ("", torch.ones_like(usable)))
    excess = torch.where(
        where, shares(formula_error, formula_bound) if kind == "formula" else shares(error, bound), -1.0
    )
    place = int(excess.argmax())
    index = _index(place, shape)
    numbers: dict[str, Any] = {
        "elements": int(error.numel()),
        "max_abs": _largest(error),
        "max_rel": _largest(error / reference.value.abs(), reference.value != 0),
        "max_ulp": _largest(error / spacing(reference.value, fmt)),
        "of_bound": of_bound(error, bound),
        "index": index,
        "value": float(measured.value[place]),
        "reference": float(reference.value[place]),
        "bound": float(bound[place]),
        "formula_error": float(formula_error[place]),
        "formula_bound": float(formula_bound[place]),
    }
    numbers["kind"] = kind or "within"
    verdict, reason, advice = _words(kind, numbers, reference, place, int(where.sum()), fmt, fine, cause)
    return Line(subject, verdict, numbers, reason, advice)


def _between(measured: Measured, reference: Reference, bound: Tensor) -> Tensor:
    """Whether the value lies between the two slopes at a corner, where any of them is a right answer."""
    low = torch.minimum(reference.left, reference.right)
    high = torch.maximum(reference.left, reference.right)
    room = torch.where(bound.isfinite(), bound, 0.0) + 0.01 * (high - low)
    return (measured.formula >= low - room) & (measured.formula <= high + room)


def _largest(values: Tensor, where: Tensor | None = None) -> float:
    """The largest value; NaN if any is NaN, 0 if there are none."""
    picked = values if where is None else values[where]
    return float(picked.max()) if picked.numel() else 0.0


def _index(place: int, shape: Sequence[int] | None) -> tuple[int, ...] | None:
    if shape is None:
        return None
    index = []
    for size in reversed(shape):
        index.append(place % size)
        place //= size
    return tuple(reversed(index))


def _words(
    kind: str,
    n: dict[str, Any],
    reference: Reference,
    place: int,
    count: int,
    fmt: Format,
    fine: torch.dtype,
    cause: str | None,
) -> tuple[Verdict, str, str]:
    name, finer = short_name(fmt.dtype), short_name(fine)
    only = fine is fmt.dtype and fine is not torch.float64
    at = f"at {n['index']}" if n["index"] is not None else "along a random direction"
    several = f" ({count} of {n['elements']} elements)" if count > 1 else ""
    if kind == "non-finite":
        traced = f"; {cause}" if cause else ""
        return (
            "fail",
            f"{n['value']} {at} where the derivative is {n['reference']:.6g}{several}{traced}.",
            f"Use a form that stays finite in {name} at this point.",
        )
    if kind == "formula":
        wrong = "the formula is wrong" + (
            ", whatever the dtype" if fine is torch.float64 else f" in {finer}, the finest dtype it ran in"
        )
        return (
            "fail",
            f"{n['value']:.6g} {at} where the derivative is {n['reference']:.6g}: off by {n['formula_error']:.3g},"
            f" the bound is {n['formula_bound']:.3g}{several}; {cause or wrong}.",
            "",
        )
    if kind == "rounding":
        return (
            "fail",
            f"{n['value']:.6g} {at} where the derivative is {n['reference']:.6g}: in {name} rounding explains at most"
            f" {n['bound']:.3g}{several}; the formula holds in a finer dtype, {finer}.",
            f"Look for code that depends on the dtype, or for a value stored in a coarser one than {name}.",
        )
    if kind == "undefined":
        seen = f"raised {reference.raised}" if reference.raised else "is not finite"
        return (
            "inconclusive",
            f"The function {seen} at or right beside the point {at}{several}, so no difference can be taken.",
            "Move the point, or give reference=FUNCTION, the same function in a form that is finite there.",
        )
    if kind == "kink":
        return (
            "inconclusive",
            f"The function has a corner {at}: slope {float(reference.left[place]):.6g} from below and"
            f" {float(reference.right[place]):.6g} from above{several}; the value lies between them.",
            "Move the point away from the corner.",
        )
    if kind == "lucky":
        return (
            "inconclusive",
            f"The result is finite, but other roundings of the same {name} operations give inf or nan{several}.",
            f"Use a form that does not depend on how {name} rounds.",
        )
    if kind == "blunt" and only:
        return (
            "inconclusive",
            f"{name} is the finest dtype it ran in, and differences in {name} are good to {n['bound']:.3g} at best,"
            f" more than the size of the derivative{several}.",
            "Give reference=FUNCTION, the same function in a form that runs in float64.",
        )
    if kind == "blunt" and float(reference.error[place]) > n["bound"] / 2:
        return (
            "inconclusive",
            f"Differences of the function are good to {float(reference.error[place]):.3g} here, more than the size of"
            f" the derivative{several}.",
            "It may compute in a coarser dtype inside than it is given, or have a corner nearby; check a part of it, or"
            " give it parameters and a batch whose gradient is larger.",
        )
    if kind == "blunt":
        held = "" if fine is fmt.dtype else f" the formula holds in a finer dtype, {finer}."
        return (
            "inconclusive",
            f"Rounding in {name} can move the derivative by {n['bound']:.3g}, more than its size{several}"
            + (f";{held}" if held else "."),
            "Every digit is lost to rounding here: use a form that does not cancel"
            + (", or a finer dtype." if name != "float64" else "."),
        )
    return "pass", "", ""

"""From a direction along which a model's gradient is wrong to the tensors and elements that are."""

from __future__ import annotations

import torch
from torch import Tensor

from gradkit.check.engine.differences import derivative
from gradkit.check.engine.judge import Measured, Reference
from gradkit.check.engine.methods import Engine, by_reverse, typical_size
from gradkit.check.engine.model_subject import parameter_name
from gradkit.check.engine.precision import format_of
from gradkit.check.engine.result import Line
from gradkit.check.engine.slots import Slot

LEVELS = 2
"""Two steps per table and one to confirm, six evaluations per direction."""

STARTS = (2.0**-12, 2.0**-7, 2.0**-17, 2.0**-22)
"""First steps relative to the parameters: small ones first, because a step of all parameters at once crosses corners
(of ReLU, of max pooling) that a step of one does not."""

GOAL = 1e-5
"""Error of a difference, relative to the largest derivative, that is good enough."""

NAMED = 5
"""At most this many wrong tensors are followed down to an index."""


def named_culprits(
    engine: Engine, directions: Tensor, measured: Measured, reference: Reference, gradient: Tensor
) -> list[Line]:
    """One line per wrong tensor, found by halving the set of tensors and then the elements of each."""
    subject = engine.subject
    formula = not bool(
        ((measured.formula - reference.value).abs() <= reference.error + measured.formula_rounding).all()
    )
    # The formula's own error shows in the fine dtype, where bounds are far smaller.
    dtype = engine.fine if formula else None
    analytic = by_reverse(subject, dtype) if formula else gradient
    search = _Search(engine, analytic, coarse=not formula, direction=directions[_worst(measured, reference)])
    lines = []
    for slot in search.tensors()[:NAMED]:
        offset, value, difference, bound = search.element(slot)
        index = tuple(int(each) for each in torch.unravel_index(torch.tensor(offset), slot.shape))
        name = parameter_name(slot)
        lines.append(
            Line(
                f"reverse, {name}",
                "fail",
                {
                    "max_abs": abs(value - difference),
                    "index": index,
                    "bound": bound,
                    "value": value,
                    "reference": difference,
                },
                f"{value:.6g} at {index} where the differences give {difference:.6g}.",
            )
        )
    return lines


def _worst(measured: Measured, reference: Reference) -> int:
    error = (measured.formula - reference.value).abs() / (reference.error + measured.formula_rounding)
    coarse = (measured.value - reference.value).abs() / (reference.error + measured.rounding)
    return int(torch.maximum(error.nan_to_num(0.0), coarse.nan_to_num(torch.inf)).argmax())


class _Search:
    """Halves a set of elements along one direction until those that disagree are left.

    Args:
        engine: Evaluates.
        gradient: What is being searched, `(n,)`.
        coarse: Whether the bound is that of the dtype of the check, or that of the reference.
        direction: Along which the whole disagreed, `(n,)`.
    """

    def __init__(self, engine: Engine, gradient: Tensor, *, coarse: bool, direction: Tensor) -> None:
        self.engine = engine
        self.gradient = gradient
        self.direction = direction
        subject = engine.subject
        self.at_point = subject.values(engine.fine)
        self.unit = format_of(subject.dtype if coarse else engine.fine).unit_roundoff

    def disagreement(self, span: slice) -> tuple[float, float]:
        """Error along the direction within the span, and its bound."""
        masked = torch.zeros_like(self.direction)
        masked[span] = self.direction[span]
        return self._along(masked)

    def _along(self, masked: Tensor) -> tuple[float, float]:
        subject = self.engine.subject
        scale = (self.at_point.abs() * subject.weights.abs()).sum()
        noise = 64 * self.engine_roundoff() * (self.at_point.abs() + scale / max(1, self.at_point.numel()))
        analytic = masked @ self.gradient
        found = derivative(
            lambda x: subject.values(self.engine.fine, x),
            subject.point,
            self.at_point,
            masked,
            weights=subject.weights,
            noise=noise,
            unit=self.engine_roundoff(),
            size=1.0,
            goal=GOAL * float(analytic.abs()),
            levels=LEVELS,
            starts=STARTS,
        )
        terms = float((masked * self.gradient).norm())
        return float(analytic) - found.value, found.error + 64 * self.unit * terms

    def engine_roundoff(self) -> float:
        """Unit round-off the function really computes with in the fine dtype."""
        return float(2.0**-self.engine.fine_bits)

    def tensors(self) -> list[Slot]:
        """The slots whose gradient disagrees, found by halving; all of them at most twice the logarithm of tests."""
        return self._halve(list(self.engine.subject.slots))

    def _halve(self, slots: list[Slot]) -> list[Slot]:
        if not slots:
            return []
        error, bound = self.disagreement(slice(slots[0].span.start, slots[-1].span.stop))
        if abs(error) <= bound:
            return []
        if len(slots) == 1:
            return slots
        middle = len(slots) // 2
        return self._halve(slots[:middle]) + self._halve(slots[middle:])

    def element(self, slot: Slot) -> tuple[int, float, float, float]:
        """Place within the tensor, gradient, difference and bound of the element with the largest error met."""
        low, high = slot.span.start, slot.span.stop
        while high - low > 1:
            middle = (low + high) // 2
            left, _ = self.disagreement(slice(low, middle))
            right, _ = self.disagreement(slice(middle, high))
            if abs(left) >= abs(right):
                high = middle
            else:
                low = middle
        unit = torch.zeros_like(self.direction)
        unit[low] = 1.0
        error, bound = self._along(unit * typical_size(self.engine.subject.point[slot.span]))
        size = typical_size(self.engine.subject.point[slot.span])
        value = float(self.gradient[low])
        return low - slot.span.start, value, value - error / size, bound / size

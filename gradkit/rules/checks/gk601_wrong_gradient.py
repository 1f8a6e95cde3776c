"""A gradient differed from differences of the function by more than rounding explains.

Reports:    a gradient by hand, by reverse or by forward mode that lies outside the bound around central differences of
            the same function in float64, with the index, both values and the bound; also a backward pass that answers
            otherwise when called again, for a cotangent that is not contiguous, or for half of the inputs.
Why:        training follows the wrong gradient without an error; a factor that is off often still lowers the loss.
Quiet when: the value lies between the two slopes at a corner, the function is not finite beside the point, or rounding
            in this dtype can move the derivative by more than its size: such lines are inconclusive.
Remedy:     Correct the derivative at the index shown; where only this dtype disagrees, use a form that stays finite and
            does not cancel in it.
Source:     `docs/check/error-bounds.md` derives every bound.
"""

from __future__ import annotations

from gradkit.findings import Severity
from gradkit.rules._base import CheckRule


class WrongGradient(CheckRule, code="GK601", severity=Severity.ERROR, since="0.1"):
    """Reported by `gradkit.check.gradients`, `function` and `module`."""

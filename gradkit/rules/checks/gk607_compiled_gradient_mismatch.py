"""The gradients of the compiled model differed from those of the model as it is written.

Reports:    each of the worst parameters with an index, both values, and how far rounding on both sides explains.
Why:        what is trained is then another model than the one the code describes.
Quiet when: every element agrees within the rounding of both; the loss draws random numbers, a value lies at a corner,
            the compiler raised, or nothing was compiled (inconclusive, with the reason).
Remedy:     Compile parts of the model alone to find the operator; look at fake kernels of custom operators and at
            mutations the compiler does not see.
Source:     PyTorch documentation, "torch.compile Troubleshooting", accuracy.
"""

from __future__ import annotations

from gradkit.findings import Severity
from gradkit.rules._base import CheckRule


class CompiledGradientMismatch(CheckRule, code="GK607", severity=Severity.ERROR, since="0.1"):
    """Reported by `gradkit.check.compiled`."""

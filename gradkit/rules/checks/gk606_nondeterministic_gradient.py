"""The same inputs and random state gave two different gradients.

Reports:    a gradient that came out otherwise when it was computed again from the same random state, and by how much.
Why:        runs cannot be repeated, and a comparison of two of them shows noise.
Quiet when: the two are equal bit for bit.
Remedy:     Draw random numbers from torch's generators, or call `torch.use_deterministic_algorithms(True)`.
Source:     PyTorch documentation, "Reproducibility".
"""

from __future__ import annotations

from gradkit.findings import Severity
from gradkit.rules._base import CheckRule


class NondeterministicGradient(CheckRule, code="GK606", severity=Severity.NOTE, since="0.1"):
    """Reported by `gradkit.check.gradients`, `function` and `module`."""

"""Accumulated gradients of micro-batches were not the gradient of the whole batch.

Reports:    K micro-batches whose weighted gradients do not add up to the gradient of the batch they make up, beyond the
            bound of rounding, with the ratio of the norms and the weights that would do it.
Why:        the accumulated step is then another one than the step it stands for: too long, or leaning to some samples.
Quiet when: the difference is rounding; the loss draws random numbers, which the parts cannot repeat (inconclusive).
Remedy:     Weight each micro-batch by its share of what the loss averages over, such as samples or tokens; replace
            batch normalization, which sees other statistics in every part, or accept the difference.
Source:     linearity of the derivative; `docs/check/error-bounds.md` for the bound.
"""

from __future__ import annotations

from gradkit.findings import Severity
from gradkit.rules._base import CheckRule


class AccumulationNotEquivalent(CheckRule, code="GK602", severity=Severity.ERROR, since="0.1"):
    """Reported by `gradkit.check.accumulation`."""

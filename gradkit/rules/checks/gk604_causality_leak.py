"""The output at a position depended on a later position of the sequence.

Reports:    outputs up to a position that changed, bit for bit, when only what comes after it was changed, and the first
            module that let it through.
Why:        a model that sees the future is good in training and useless where there is none yet.
Quiet when: the earlier outputs stay bit-identical, or move by rounding that shrinks with the dtype; two equal forwards
            already differ (inconclusive).
Remedy:     Mask later positions in attention, pad convolutions on the left only, and keep sums along time cumulative.
Source:     Karpathy, A Recipe for Training Neural Networks, "use backprop to chart dependencies"; here with values.
"""

from __future__ import annotations

from gradkit.findings import Severity
from gradkit.rules._base import CheckRule


class CausalityLeak(CheckRule, code="GK604", severity=Severity.ERROR, since="0.1"):
    """Reported by `gradkit.check.causality`."""

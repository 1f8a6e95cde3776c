"""The output of one sample depended on another sample of its batch.

Reports:    outputs that changed, bit for bit, when only another sample was changed, and the first module that let it
            through.
Why:        predictions then depend on the company a sample is in, and a model can learn from what it will not have.
Quiet when: the other samples' outputs stay bit-identical, or move by rounding that shrinks with the dtype; two equal
            forwards already differ (inconclusive).
Remedy:     Look for a reduction, a view or a transpose across the batch dimension; batch normalization mixes samples in
            training mode by design, so check in eval mode or use GroupNorm.
Source:     Karpathy, A Recipe for Training Neural Networks, "use backprop to chart dependencies"; here with values.
"""

from __future__ import annotations

from gradkit.findings import Severity
from gradkit.rules._base import CheckRule


class BatchLeak(CheckRule, code="GK603", severity=Severity.ERROR, since="0.1"):
    """Reported by `gradkit.check.batch_independence`."""

"""In a packed or padded batch the output of one document depended on another document, or on padding.

Reports:    a document whose outputs changed, bit for bit, when only the other documents of its row or the padding were
            changed, and the first module that let it through.
Why:        what a document is learnt to be then depends on what happened to be packed beside it, or on how long the
            batch was padded.
Quiet when: its outputs stay bit-identical, or move by rounding that shrinks with the dtype; two equal forwards already
            differ (inconclusive).
Remedy:     Give attention a mask of documents, or position_ids that start anew with each; mask padding in attention,
            pooling and normalization.
Source:     Krell et al., Efficient Sequence Packing without Cross-contamination, 2021.
"""

from __future__ import annotations

from gradkit.findings import Severity
from gradkit.rules._base import CheckRule


class DocumentLeak(CheckRule, code="GK608", severity=Severity.ERROR, since="0.1"):
    """Reported by `gradkit.check.documents`."""

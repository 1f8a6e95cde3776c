"""Something could not be observed, so some rules kept silent.

Reports:    what was out of sight (a compiled step, a captured graph, a route around autograd) and which rules that
            silences.
Why:        silence of those rules says nothing about that part of the run.
Quiet when: everything the active rules need was visible.
Remedy:     Watch one short run in which that part is visible.
Source:     docs/contract.md: a quiet run says what could not be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Gap
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class ObservationIncomplete(Rule[Gap], code="GK901", severity=Severity.NOTE, since="0.1"):
    """One note per thing that was out of sight."""

    def check(self, records: Sequence[Gap]) -> Iterator[Finding]:
        """Yield the note."""
        gap = records[-1]
        silenced = ", ".join(gap.silenced)
        yield self.finding(
            message=f"{gap.what}; this silenced {silenced or 'no rule'}.",
            evidence={"what": gap.what, "silenced": list(gap.silenced)},
            remedy=gap.remedy or None,
        )

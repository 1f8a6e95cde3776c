"""A rule or a hook of gradkit raised; training went on without its judgement.

Reports:    the exception and its traceback, once per place; repeats are counted.
Why:        what that rule would have said about these steps is missing from the report.
Quiet when: nothing raised.
Remedy:     Report it with the traceback; until then deselect the rule with `ignore`.
Source:     docs/contract.md: a watched run computes what an unwatched run computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Crash
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class RuleCrashed(Rule[Crash], code="GK900", severity=Severity.NOTE, since="0.1"):
    """One note per place that raised."""

    def check(self, records: Sequence[Crash]) -> Iterator[Finding]:
        """Yield the note."""
        crash = records[-1]
        yield self.finding(
            message=f"{crash.where} raised {crash.error}; training went on without it.",
            evidence={"where": crash.where, "error": crash.error, "traceback": crash.traceback},
            cost="Findings of these steps may be missing.",
        )

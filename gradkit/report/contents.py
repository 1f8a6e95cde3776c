"""What one watched run has to say, as plain values; how it is shown is the business of the files beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gradkit.config.wording import counted
from gradkit.findings import Finding
from gradkit.records import RunInfo


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything one watched run has to say.

    Attributes:
        findings: Worst first.
        info: Totals of the run.
        rules: Code and name of each active rule.
        dropped: Findings beyond the limit, which are not listed.
        suppressed: Findings the user asked not to see, for the JSON report.
        ranks: Processes of one distributed run that are in it.
    """

    findings: Sequence[Finding]
    info: RunInfo = field(default_factory=RunInfo)
    rules: Sequence[tuple[str, str]] = ()
    dropped: int = 0
    suppressed: Sequence[Finding] = ()
    ranks: int = 1

    def totals(self) -> str:
        """How much was watched, in words."""
        return (
            f"{counted(self.info.steps, 'optimizer step')} and {counted(self.info.backwards, 'backward call')} watched,"
            f" {counted(self.info.optimizers, 'optimizer')}, {counted(self.info.parameters, 'parameter tensor')},"
            f" {counted(len(self.rules), 'rule')} active{f', {self.ranks} ranks' if self.ranks > 1 else ''}"
        )

"""Passes over the data ended inside an accumulation window, and what was left over was misplaced or thrown away.

Reports:    a data loader that was exhausted with fewer micro-batches waiting than a window holds, which then made the
            first window of the next pass longer, or were cleared, pass after pass.
Why:        the first step of a pass follows more micro-batches than the others, the oldest computed with weights from
            long before; or the same share of every pass is computed and never used.
Quiet when: the smaller last window is stepped; windows are counted over all passes, so that each is whole; windows
            differ in size on purpose; there are several optimizers; the border of a pass was not seen.
Remedy:     Step at the end of a pass too: `if (index + 1) % accumulate == 0 or index + 1 == len(loader)`.
Source:     Accelerate documentation, "Performing gradient accumulation": the last batches of a dataloader are stepped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Pass
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class UnevenAccumulationWindow(Rule[Pass], code="GK104", severity=Severity.WARNING, since="0.1"):
    """Settings and check.

    Attributes:
        borders: Passes in a row that must end so (docs/contract.md).
        full_windows: Full windows of one size a pass must hold before what is left over counts as such.
    """

    borders: int = 2
    full_windows: int = 2

    def check(self, records: Sequence[Pass]) -> Iterator[Finding]:
        """Yield a finding from the second such border on."""
        now = records[-1]
        if now.borders < self.borders or now.full_windows < self.full_windows or not 0 < now.left_over < now.window:
            return
        if now.carried:
            fate = f"went into the first window of the next pass, which held {now.first_window}"
        else:
            fate = "were thrown away"
        yield self.finding(
            step=now.step,
            where=now.location,
            optimizer=now.optimizer,
            message=(
                f"{now.borders} passes in a row ended with {now.left_over} micro-batch(es) left over from windows of"
                f" {now.window}; they {fate}."
            ),
            cost=(
                "The first step of each pass is made of more micro-batches than the others, some of them stale."
                if now.carried
                else f"{now.left_over} of {now.batches} batches of each pass were computed for nothing."
            ),
            evidence={
                "batches": now.batches,
                "window": now.window,
                "left_over": now.left_over,
                "carried": now.carried,
                "first_window": now.first_window,
                "borders": now.borders,
            },
        )

"""A learning-rate scheduler stepped before the first optimizer step of its cycle.

Reports:    a scheduler whose first value no step ever used: it stepped between the backward and the first `step()`, or,
            at the start of every round of a loop, before anything had been back-propagated.
Why:        the whole schedule is shifted by one: a warmup starts too high, a decay comes one epoch early.
Quiet when: the scheduler was wound forward to a saved epoch (several steps, or another line); a first step was skipped
            by a gradient scaler; the epoch is given as an argument; the value left out was 0; `ReduceLROnPlateau`,
            which is told a measured value.
Remedy:     Call `scheduler.step()` after `optimizer.step()`.
Source:     PyTorch API reference, `torch.optim`, "How to adjust learning rate" (order since 1.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import ScheduleStep
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class SchedulerBeforeOptimizer(Rule[ScheduleStep], code="GK405", severity=Severity.WARNING, since="0.1"):
    """No settings: the order is a fact."""

    def check(self, records: Sequence[ScheduleStep]) -> Iterator[Finding]:
        """Yield one finding for the last record."""
        now = records[-1]
        known = now.skipped is not None and now.used is not None
        rates = f" (rate {now.skipped:g}; the first one used was {now.used:g})" if known else ""
        when = (
            "between the backward and the first step of"
            if now.order == "between"
            else "before the first backward, and again at the same line after steps of"
        )
        yield self.finding(
            step=0,
            where=now.line,
            optimizer=now.optimizer,
            message=f"{now.scheduler} stepped {when} {now.optimizer}; its first value was never used{rates}.",
            cost="Every step ran at the rate meant for the next one.",
            evidence={"skipped_rate": now.skipped, "first_rate_used": now.used, "order": now.order},
            labels=[(now.step_line, "the optimizer's first step")] if now.step_line else [],
        )

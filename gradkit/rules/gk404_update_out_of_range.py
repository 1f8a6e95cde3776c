"""The ratio of update to weight norms stayed at an absurd level.

Reports:    an optimizer whose updates, for many steps in a row, were about as large as the weights they changed, or
            many times as large as the weights training began with, while the loss rose to twice its first value;
            also where the weights became infinite before that many steps were over.
Why:        each step throws away what the steps before it had learned; such a run bounces or diverges.
Quiet when: the loss did not rise, or is not known; updates were large for a few steps only (weights that start at or
            near zero); only inputs are learned.
Remedy:     Lower the learning rate, first by a factor of 100.
Source:     CS231n notes, "Ratio of weights:updates": about 0.001 is usual. A walk of independent steps keeps a ratio of
            1 over the root of their number, at most 0.32 as the median of the first 20.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import UpdateSizes
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class UpdateOutOfRange(Rule[UpdateSizes], code="GK404", severity=Severity.WARNING, since="0.1"):
    """Settings and check.

    Attributes:
        steps: Consecutive steps that must have been measured, at most 20.
        largest: Median ratio of update to weights from which on it is reported. Measured on linear and two-layer
            classifiers: at most 0.3 with learning rates that train, also from zero weights; 0.55 and more with ones
            that bounce or diverge.
        largest_at_start: Median ratio of update to the first weights from which on it is reported; no update may be
            below three tenths of it, nor of `largest`.
            Measured: at most 1 with learning rates that train, 20 and more with ones a hundred times too large.
    """

    steps: int = 20
    largest: float = 0.5
    largest_at_start: float = 10.0

    def check(self, records: Sequence[UpdateSizes]) -> Iterator[Finding]:
        """Yield at most one finding for the last record."""
        now = records[-1]
        ratios, against_start = now.ratios[-self.steps :], now.against_start[-self.steps :]
        finite = [ratio for ratio in ratios if math.isfinite(ratio)]
        lost = len(finite) < len(ratios)  # from some step on the weights or their change were not finite
        if len(ratios) < self.steps or len(finite) < 2 or not now.of_modules or not self._rose(now, lost):
            return
        median = statistics.median(finite)
        if median >= self.largest and min(finite) >= 0.3 * self.largest:
            size = f"{median:.2g} times the norm of the weights they changed (median; 0.001 is usual)"
            size += f", until these were no longer finite after {len(finite)}" if lost else ""
        elif not lost and against_start and self._is_beyond_start(against_start):
            size = f"{statistics.median(against_start):.3g} times the norm of the weights training began with (median)"
        else:
            return
        loss = statistics.median([loss for loss in now.losses[-10:] if not math.isnan(loss)])
        rate = "" if now.learning_rate is None else f" at learning rate {now.learning_rate:g}"
        yield self.finding(
            step=now.step,
            where=now.step_line,
            optimizer=now.optimizer,
            message=(
                f"For {len(ratios)} steps in a row{rate} the updates of {now.optimizer} had {size}, and the loss rose"
                f" from {now.first_loss:.3g} to {loss:.3g}."
            ),
            cost="Every step threw away what the steps before it had learned.",
            evidence={
                "steps": len(ratios),
                "learning_rate": now.learning_rate,
                "median_ratio": median,
                "smallest_ratio": min(ratios),
                "largest_ratio": max(finite),
                "steps_until_not_finite": len(finite) if lost else None,
                "median_ratio_to_first_weights": statistics.median(against_start) if against_start else None,
                "first_loss": now.first_loss,
                "loss": loss,
            },
            labels=[(now.created_line, "the optimizer was made here")] if now.created_line else [],
        )

    def _is_beyond_start(self, against_start: Sequence[float]) -> bool:
        median = statistics.median(against_start)
        return median >= self.largest_at_start and min(against_start) >= 0.3 * self.largest_at_start

    @staticmethod
    def _rose(now: UpdateSizes, lost: bool) -> bool:
        """Whether the last ten losses are at twice the first, and most above it; NaN, an unknown loss, is not.

        Weights that were lost count only if the loss rose before: a NaN in the data loses them as well.
        """
        first = now.first_loss
        if lost and next((loss for loss in reversed(now.losses) if math.isfinite(loss)), first) < first + abs(first):
            return False
        last = [loss for loss in now.losses[-10:] if not math.isnan(loss)]
        return sum(loss > first for loss in last) >= 8 and statistics.median(last) >= first + abs(first)

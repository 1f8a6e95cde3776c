"""A backward deposited gradients, something cleared them, and the optimizer then stepped without them.

Reports:    windows in which every deposited gradient was gone (None, zeroed, replaced by zeros) when the step came;
            with a declared number of micro-batches per window, also windows that lost some of them.
Why:        the step had nothing to follow: the weights stay, or move by momentum and weight decay alone, and no error
            is raised.
Quiet when: no step followed the clearing; new gradients arrived after it (sharpness-aware steps, gradients for
            logging); only some parameters were cleared (a layer frozen for a while); the gradients were not finite or
            the clearing, or the call of the helper it stands in, is under a condition of its own (a skipped update).
Remedy:     Move the clearing before the backward or after the step.
Source:     PyTorch API reference, `torch.optim.Optimizer.zero_grad`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Window
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class GradientsClearedBeforeStep(Rule[Window], code="GK102", severity=Severity.ERROR, since="0.1"):
    """Settings and check.

    Attributes:
        repeats: Cleared windows in a row that are needed once the optimizer has trained normally; a single one then
            is more likely a skipped update. The very first window of an optimizer is reported at once.
    """

    repeats: int = 2

    def check(self, records: Sequence[Window]) -> Iterator[Finding]:
        """Yield at most one finding for the last window."""
        now = records[-1]
        if now.clearing_is_conditional:
            return
        if now.cleared and now.cleared_finite:
            if now.consecutive_cleared <= now.step and now.consecutive_cleared < self.repeats:
                return
            lost, total = now.backwards, now.backwards
        elif now.accumulate and now.accumulate > 1 and now.backwards >= now.accumulate and now.cleared_deposits:
            lost, total = now.cleared_deposits, now.backwards
        else:
            return
        where, named = now.step_line, now.clearing
        if where is not None and where.via is not None and named:
            where, named = named[0].location, named[1:]  # the step is the framework's own
        labels = [(now.backward_line, "gradients were deposited here")] if now.backward_line else []
        labels += [(item.location, item.note) for item in named]
        evidence: dict[str, object] = {
            "backwards": total,
            "backwards_lost": lost,
            "consecutive_windows": now.consecutive_cleared,
            "parameters_held": now.parameter_count,
        }
        if now.clearing:
            evidence["clearing"] = [f"line {item.location.line}: {item.text}: {item.note}" for item in now.clearing]
        yield self.finding(
            step=now.step,
            where=where,
            optimizer=now.optimizer,
            parameters=[parameter.name for parameter in now.parameters],
            message=(
                f"Step {now.step} of {now.optimizer} ran without the gradients of {lost} of {total} backward call(s):"
                " they were cleared between the backward and the step."
            ),
            cost="The work of those backward calls was lost; the weights did not follow the loss.",
            evidence=evidence,
            labels=labels,
        )

"""Parameters with `requires_grad=False`, or declared frozen, were moved by a step.

Reports:    parameters that were frozen after the optimizer had taken them, and that a step then changed: their gradient
            was exactly zero, so momentum or weight decay moved them, or it was, bit by bit, that of the step before.
            With `frozen=` also any declared parameter that a step changed.
Why:        the layers that were meant to stay drift away from their pretrained values, often unnoticed.
Quiet when: their gradient is None, as `zero_grad()` leaves it: optimizers skip them then; a gradient is written by hand
            before every step (evolution strategies, `torch.func`); something other than a step moves them (averages).
Remedy:     Clear their gradients to None when freezing (`zero_grad(set_to_none=True)`), or take them out of the
            optimizer's groups.
Source:     PyTorch API reference, `torch.optim.Optimizer.zero_grad`: behaviour for a gradient of 0 or None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import FrozenUpdate
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class FrozenParametersUpdated(Rule[FrozenUpdate], code="GK406", severity=Severity.ERROR, since="0.1"):
    """No settings: one proven step is enough."""

    def check(self, records: Sequence[FrozenUpdate]) -> Iterator[Finding]:
        """Yield one finding for the last record."""
        now = records[-1]
        causes = []
        if now.zero:
            causes.append(f"{len(now.zero)} on a gradient of exactly zero, by momentum or weight decay")
        if now.stale:
            causes.append(f"{len(now.stale)} on the very gradient of the step before")
        if now.declared:
            causes.append(f"{len(now.declared)} that were declared frozen")
        parameters = (*now.zero, *now.stale, *now.declared)
        if not parameters:
            return
        yield self.finding(
            step=now.step,
            where=now.step_line,
            optimizer=now.optimizer,
            parameters=[item.name for item in parameters],
            modules=sorted({item.module for item in parameters if item.module}),
            message=(
                f"Step {now.step} of {now.optimizer} moved {len(parameters)} frozen parameter(s): {'; '.join(causes)}."
            ),
            cost="What was meant to stay drifts with every step.",
            evidence={"zero_gradient": len(now.zero), "stale_gradient": len(now.stale), "declared": len(now.declared)},
            labels=[(now.created_line, "the optimizer was made here")] if now.created_line else [],
        )

"""Many steps ran on gradients other than zero and left every parameter bit-identical.

Reports:    an optimizer none of whose steps changed a bit of any of its parameters, at a learning rate of 0 or so small
            that every update is lost in rounding, or because its step does nothing. At a learning rate of 0, also one a
            scheduler holds it at, it is said when the optimizer or the watching ends: the rate may be raised yet.
Why:        training goes through all its motions and the model stays what it was.
Quiet when: the learning rate is 0 for a while, whoever holds it there (a warmup from 0, a part that joins later), or
            is still rising; a step was skipped or its gradients were zero or not finite; the gradients are so small
            against the weights that training has converged; anything moved once; the optimizer's parameters get no
            gradient (GK402, GK103).
Remedy:     Look at the learning rate the optimizer really uses (`optimizer.param_groups[0]["lr"]`).
Source:     IEEE 754: an addition below half a unit in the last place changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Stillness
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class WeightsNeverChange(Rule[Stillness], code="GK403", severity=Severity.ERROR, since="0.1"):
    """Settings and check.

    Attributes:
        steps: Measured steps that changed nothing.
        least_gradient: Smallest 2-norm of the gradient, against that of the weights, that shows a run which has not
            converged; with a learning rate of exactly 0 any gradient does.
    """

    steps: int = 20
    least_gradient: float = 1e-3

    def check(self, records: Sequence[Stillness]) -> Iterator[Finding]:
        """Yield at most one finding for the last record."""
        now = records[-1]
        stopped = now.learning_rate == 0.0
        if now.steps < self.steps or not (stopped or now.gradient_norm >= self.least_gradient * now.weight_norm):
            return
        rate = "an unknown learning rate" if now.learning_rate is None else f"learning rate {now.learning_rate:g}"
        yield self.finding(
            step=now.step,
            where=now.step_line,
            optimizer=now.optimizer,
            message=(
                f"{now.steps} steps of {now.optimizer} at {rate} ran on gradients other than zero (norm"
                f" {now.gradient_norm:.3g}) and left all {now.parameter_count} parameter(s) bit-identical."
            ),
            cost="Nothing was learned.",
            evidence={
                "steps": now.steps,
                "learning_rate": now.learning_rate,
                "gradient_norm": now.gradient_norm,
                "weight_norm": now.weight_norm,
            },
            labels=[(now.created_line, "the optimizer was made here")] if now.created_line else [],
        )

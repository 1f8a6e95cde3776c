"""Gradients kept accumulating on parameters that no optimizer holds and nobody clears.

Reports:    parameters of a model of which no or only a small part is optimized (a teacher, a frozen base whose
            `requires_grad` was left on, a network used as a loss) on which gradients were added up over several steps.
            It is said when watching ends, because somebody may move them yet.
Why:        the backward computes and stores weight gradients that nobody reads, about a third of its work and as much
            memory as the weights; if they are ever optimized, the first step follows the sum of all of them.
Quiet when: the parameters do not require gradients; somebody clears or reads and replaces the gradients; something
            moves the parameters, however late; only inputs are learned; most of the model is optimized (GK401); the
            optimizer holds nothing that takes part (GK402).
Remedy:     Call `requires_grad_(False)` on what is not trained, or compute its output under `torch.no_grad()`.
Source:     PyTorch notes, "Autograd mechanics": locally disabling gradient computation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import Membership
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class OrphanGradients(Rule[Membership], code="GK106", severity=Severity.WARNING, since="0.1"):
    """Settings and check.

    Attributes:
        steps: Optimizer steps over which the gradients were added up.
    """

    steps: int = 3

    def check(self, records: Sequence[Membership]) -> Iterator[Finding]:
        """Yield at most one finding for the last record."""
        now = records[-1]
        if now.windows < self.steps or not now.kept or now.foreign or now.trained_without or now.inputs_only:
            return
        yield self.finding(
            step=now.step,
            where=now.backward_line or now.step_line,
            parameters=[item.name for item in now.outside],
            modules=sorted({item.module for item in now.outside if item.module}),
            message=(
                f"Gradients were added up over {now.windows} steps on {len(now.outside)} parameter(s) of {now.model}"
                f" ({now.outside_numbers:,} numbers) that no optimizer holds; nobody cleared them."
            ),
            cost="Weight gradients nobody uses were computed and kept in memory.",
            evidence={
                "model": now.model,
                "steps": now.windows,
                "outside": len(now.outside),
                "outside_numbers": now.outside_numbers,
                "held": now.held,
                "held_numbers": now.held_numbers,
            },
        )

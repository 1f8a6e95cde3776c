"""The optimizer stepped on gradients of forwards made with the whole model in eval mode.

Reports:    steps in a row on gradients of forwards that all ran with the model in eval mode, where most of the model is
            trained and gradients flowed through dropout or batch-norm layers that eval mode switches off.
Why:        nothing is dropped out and batch-norm neither uses nor updates the statistics of its batch, so another model
            is trained than the one that was written down.
Quiet when: any part of the model that ran is in train mode (frozen batch-norm layers in a model in train mode); the
            model has no dropout or batch-norm layer that gradients flow through, or only in parts that are not stepped;
            less than half of the model is stepped (a probe, an adapter, a prompt); gradients were computed in eval mode
            and no step followed.
Remedy:     Call `model.train()` before the training steps, and again after every evaluation.
Source:     PyTorch API reference, `torch.nn.Module.eval` and `torch.nn.Module.train`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import ModeStep
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class TrainingInEvalMode(Rule[ModeStep], code="GK204", severity=Severity.ERROR, since="0.1"):
    """Settings and check.

    Attributes:
        steps: Steps in a row in eval mode before they are reported (docs/contract.md).
    """

    steps: int = 2

    def check(self, records: Sequence[ModeStep]) -> Iterator[Finding]:
        """Yield a finding once enough steps in a row were made in eval mode, and for each further one."""
        now = records[-1]
        if now.count < self.steps:
            return
        layers = ", ".join(f"{name} x{count}" if count > 1 else name for name, count in sorted(now.layers.items()))
        since = "after steps in train mode" if now.trained_before else "from the first step that was seen"
        labels = [(now.step_line, "this stepped in eval mode")] if now.step_line and now.eval_line else []
        yield self.finding(
            step=now.step,
            where=now.eval_line or now.step_line,
            optimizer=now.optimizer,
            modules=(now.model,),
            message=(
                f"{now.optimizer} made {now.count} steps in a row, {since}, on gradients of {now.model} in eval mode:"
                f" {layers} were switched off."
            ),
            cost="The model was trained without the dropout and the batch statistics its code asks for.",
            evidence={"count": now.count, "layers": dict(now.layers), "trained_before": now.trained_before},
            labels=labels,
        )

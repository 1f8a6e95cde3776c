"""An evaluation ran with the model's dropout or batch-norm layers in train mode.

Reports:    a pass of forwards without gradients of a trained model, between two training steps or after the last, in
            which dropout or batch-norm layers ran in train mode because the whole model was.
Why:        dropout adds noise to the results; batch-norm takes its statistics from the evaluation data and keeps them,
            so the evaluation changes the model that is trained.
Quiet when: only some layers are in train mode (Monte-Carlo dropout), or the same input is forwarded repeatedly; batch
            statistics are collected anew (`update_bn`, `reset_running_stats`); the forwards recur in the training steps
            (guessed labels, critics); the model is never stepped (a target, an average).
Remedy:     Call `model.eval()` before the evaluation and `model.train()` after it.
Source:     PyTorch API reference, `torch.inference_mode`: it does not set the model to evaluation mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradkit.findings import Finding, Severity
from gradkit.records import EvaluationPass
from gradkit.rules._base import Rule


@dataclass(frozen=True, kw_only=True)
class EvaluatingInTrainMode(Rule[EvaluationPass], code="GK205", severity=Severity.WARNING, since="0.1"):
    """Settings and check.

    Attributes:
        forwards: Forwards of one pass in train mode before it is reported (RULES.md, "Fires within").
    """

    forwards: int = 2

    def check(self, records: Sequence[EvaluationPass]) -> Iterator[Finding]:
        """Yield a finding for a pass without gradients in train mode."""
        now = records[-1]
        if not now.training or now.recorded or now.forwards < self.forwards or not now.active_layers:
            return
        layers = ", ".join(sorted(now.active_layers))
        moved = any("Norm" in name for name in now.active_layers)
        yield self.finding(
            step=now.step,
            where=now.location,
            modules=(now.model,),
            message=(
                f"{now.forwards} forwards of {now.model} without gradients ran in train mode: {layers} were active."
            ),
            cost=(
                "The running statistics of batch-norm now hold evaluation data."
                if moved
                else "The results carry the noise of dropout."
            ),
            evidence={"forwards": now.forwards, "active_layers": dict(now.active_layers)},
        )

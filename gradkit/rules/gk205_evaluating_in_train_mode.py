"""An evaluation ran with the model's dropout or batch-norm layers in train mode.

Reports:    a pass of forwards without gradients of a trained model, between two training steps or after the last, in
            which dropout or batch-norm layers ran in train mode because the whole model was, or in which dropout ran
            that `eval()` does not reach: a functional call without `training=self.training`, attention with a constant
            `dropout_p`, a layer made inside the forward or kept in a plain list.
Why:        dropout adds noise to the results; batch-norm takes its statistics from the evaluation data and keeps them,
            so the evaluation changes the model that is trained.
Quiet when: only some layers of the model are in train mode (Monte-Carlo dropout), a functional call is given
            `training` by a name or an expression or stands under a condition, or the same input, or the same data of a
            loader, is forwarded repeatedly from one place without training in between; batch statistics are collected
            anew (`update_bn`, `reset_running_stats`, calls whose results are dropped); the forwards recur in the
            training steps (guessed labels, critics); the model is never stepped (a target, an average).
Remedy:     Call `model.eval()` before the evaluation and `model.train()` after it; give `training=self.training` to
            functional dropout.
Source:     PyTorch API reference, `torch.inference_mode`: it does not set the model to evaluation mode;
            `torch.nn.functional.dropout`: `training` is True unless given.
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
        forwards: Forwards of one pass in train mode before it is reported (docs/contract.md).
    """

    forwards: int = 2

    def check(self, records: Sequence[EvaluationPass]) -> Iterator[Finding]:
        """Yield a finding for a pass without gradients in train mode, or with dropout that no mode governs."""
        now = records[-1]
        if now.recorded or now.forwards < self.forwards:
            return
        layers = {**now.active_layers, **now.ungoverned} if now.training else dict(now.ungoverned)
        if not layers:
            return
        named = ", ".join(sorted(layers))
        moved = any("Norm" in name for name in layers)
        # The line to mend: of dropout that `eval()` does not reach its own, otherwise the evaluation's.
        where = now.location if now.training or now.dropout_line is None else now.dropout_line
        how = f"train mode: {named} were active" if now.training else f"eval mode and yet dropped out: {named}"
        yield self.finding(
            step=now.step,
            where=where,
            modules=(now.model,),
            message=f"{now.forwards} forwards of {now.model} without gradients ran in {how}.",
            cost=(
                "The running statistics of batch-norm now hold evaluation data."
                if moved
                else "The results carry the noise of dropout."
            ),
            evidence={"forwards": now.forwards, "active_layers": layers, "training": now.training},
            labels=[(now.location, "the evaluation ran here")] if now.location and where != now.location else [],
        )

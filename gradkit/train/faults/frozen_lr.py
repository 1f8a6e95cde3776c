"""The learning rate is 0 in every step, so no weight ever changes (GK403)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK403"


class Loop(TrainingLoop):
    """Steps with a learning rate of 0, as after a schedule that was given the wrong length."""

    def update_parameters(self) -> None:
        """Step without effect."""
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        super().update_parameters()

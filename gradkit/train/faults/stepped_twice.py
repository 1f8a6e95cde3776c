"""The optimizer steps twice on one gradient, as when both a helper and its caller step (GK103)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK103"


class Loop(TrainingLoop):
    """Steps once too often."""

    def update_parameters(self) -> None:
        """Step, and step again on the same gradients."""
        super().update_parameters()
        self.optimizer.step()

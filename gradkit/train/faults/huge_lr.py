"""The learning rate is `fault.factor` times what was configured (GK404)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK404"


class Loop(TrainingLoop):
    """Multiplies the learning rate once, before the first step."""

    def __post_init__(self) -> None:
        """Raise the learning rate."""
        super().__post_init__()
        for group in self.optimizer.param_groups:
            group["lr"] *= self.fault.factor

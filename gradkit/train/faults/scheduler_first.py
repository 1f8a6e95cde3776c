"""The learning-rate schedule steps before the optimizer, so the first value of the schedule is skipped (GK405)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK405"


class Loop(TrainingLoop):
    """Steps in the wrong order."""

    def update_parameters(self) -> None:
        """Step the schedule, then the optimizer."""
        self.schedule.after_step()
        self.optimizer.step()

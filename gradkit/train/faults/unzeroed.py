"""Gradients are never cleared, or only every so many steps: each step follows the sum of several windows (GK101)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK101"


class Loop(TrainingLoop):
    """Clears only in steps divisible by `fault.every`; without it, never."""

    def clear_gradients(self) -> None:
        """Leave what the steps before have already used."""
        every = self.fault.every
        if every is not None and self.progress.step % every == 0:
            super().clear_gradients()

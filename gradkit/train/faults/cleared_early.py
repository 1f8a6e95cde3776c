"""Gradients are cleared between the backward and the step, which then has nothing to go by (GK102)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK102"


class Loop(TrainingLoop):
    """Clears once too often."""

    def update_parameters(self) -> None:
        """Clear what the backward has just left, then step."""
        self.clear_gradients()
        super().update_parameters()

"""Validation runs with dropout active and batch-norm learning from validation data (GK205)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK205"


class Loop(TrainingLoop):
    """Forgets `model.eval()` before evaluating."""

    def evaluate(self) -> float | None:
        """The validation loss of the model in train mode."""
        return self.on_epoch_end(self.inference, False)

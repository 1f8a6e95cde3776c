"""The model stays in eval mode after its first validation: no dropout, frozen batch-norm statistics (GK204)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK204"


class Loop(TrainingLoop):
    """Forgets `model.train()` after evaluating."""

    def evaluate(self) -> float | None:
        """The validation loss; the model is left in eval mode."""
        loss = super().evaluate()
        self.model.eval()
        return loss

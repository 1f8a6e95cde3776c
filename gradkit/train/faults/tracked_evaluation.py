"""Validation records autograd graphs that nobody uses (GK201)."""

from __future__ import annotations

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK201"


class Loop(TrainingLoop):
    """Evaluates without `torch.no_grad`."""

    def evaluate(self) -> float | None:
        """The validation loss, with every forward tracked."""
        return self.on_epoch_end("tracked", True)

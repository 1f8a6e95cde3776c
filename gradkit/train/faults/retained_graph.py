"""The loss of every step is kept together with its graph, so graphs of earlier steps stay alive (GK202)."""

from __future__ import annotations

from torch import Tensor

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK202"


class Loop(TrainingLoop):
    """Keeps a history of losses that were not detached."""

    def __post_init__(self) -> None:
        """Begin an empty history."""
        super().__post_init__()
        self.history: list[Tensor] = []

    def value_of(self, loss: Tensor) -> Tensor:
        """The loss as a number; the loss with its graph goes into the history."""
        self.history.append(loss)
        return super().value_of(loss)

"""Every backward keeps its graph for a second one that never comes (GK207)."""

from __future__ import annotations

from torch import Tensor

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK207"


class Loop(TrainingLoop):
    """Asks for the graph to be retained, as after an error message that suggested it."""

    def backward(self, loss: Tensor, share: float) -> None:
        """Backward with `retain_graph=True`."""
        (loss * share).backward(retain_graph=True)

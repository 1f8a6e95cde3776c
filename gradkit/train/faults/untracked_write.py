"""Weights change between forward and backward where autograd cannot see it: the gradient is of other ones (GK208)."""

from __future__ import annotations

from torch import Tensor

from gradkit.train.loop.steps import TrainingLoop

RULE = "GK208"


class Loop(TrainingLoop):
    """Decays the weights by hand, too early and through `.data`."""

    def backward(self, loss: Tensor, share: float) -> None:
        """Write to the weights, then run the backward of the forward before."""
        for parameter in self.parameters:
            parameter.data.mul_(0.999)
        super().backward(loss, share)

"""What the loop asks of whoever works out the gradient."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class GradientMethod(Protocol):
    """One source of gradients: `forward`, then `backward`, once per micro-batch and in this order."""

    @property
    def builds_graph(self) -> bool:
        """Whether autograd records the forward pass."""

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a micro-batch with its penalties, 0-dim, on the device; never waits for it.

        Args:
            features: (batch, ...), in the model's dtype.
            targets: (batch,), in [0, 1], of the same dtype.
        """

    def backward(self, loss: Tensor, share: float) -> None:
        """Add `share` times the gradient of the latest `forward` to every parameter's `.grad`.

        Args:
            loss: What `forward` returned.
            share: Samples of this micro-batch over samples of the accumulation window.
        """

    def differences(self) -> dict[str, Tensor]:
        """What was compared in the window that just ended, as 0-dim tensors on the device; empties the comparison."""


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add to a parameter's `.grad` as autograd does: the tensor itself where there is none, in place where there is."""
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad.add_(gradient)

"""The gradient by autograd."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from gradkit.train.loop.losses import LossFunction, Penalty


class AutogradGradient:
    """Forward with a graph, backward through it.

    Args:
        model: The model as Fabric or torch.compile wrapped it.
        loss: The mean loss.
        penalty: What is added to it.
        backward: Runs backward from a 0-dim tensor, such as `Fabric.backward`.
    """

    builds_graph = True

    def __init__(
        self, model: nn.Module, loss: LossFunction, penalty: Penalty, backward: Callable[[Tensor], None]
    ) -> None:
        self._model, self._loss, self._penalty, self._backward = model, loss, penalty, backward

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """See `GradientMethod`."""
        loss = self._loss(self._model(features), targets)
        return self._penalty.add_to(loss) if self._penalty.active else loss

    def backward(self, loss: Tensor, share: float) -> None:
        """See `GradientMethod`."""
        self._backward(loss if share == 1.0 else loss * share)

    def differences(self) -> dict[str, Tensor]:
        """Nothing is compared."""
        return {}

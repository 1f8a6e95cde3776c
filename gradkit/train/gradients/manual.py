"""The gradient by the hand-derived chain rule, with no autograd graph at all."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gradkit.errors import ConfigError
from gradkit.train.gradients.derivation import Derivation, ParameterGradient
from gradkit.train.gradients.logistic import LogisticDerivation
from gradkit.train.gradients.loss_derivatives import logit_derivative
from gradkit.train.gradients.method import accumulate
from gradkit.train.gradients.mlp import MlpDerivation
from gradkit.train.gradients.notebook import NotebookDerivation
from gradkit.train.loop.losses import LossFunction, Penalty
from gradkit.train.models import Logistic, Mlp, Notebook
from gradkit.train.schema.models import LossConfig


def derivation_of(model: nn.Module) -> Derivation:
    """The chain rule of a model.

    Raises:
        ConfigError: None was worked out for it.
    """
    if isinstance(model, Notebook):
        return NotebookDerivation(model)
    if isinstance(model, Logistic):
        return LogisticDerivation(model)
    if isinstance(model, Mlp):
        return MlpDerivation(model)
    raise ConfigError(
        "gradient=manual and gradient=both are derived by hand for model=notebook, model=logistic and model=mlp;"
        f" for {type(model).__name__} use gradient=autograd."
    )


class ManualGradient:
    """Forward and gradient by hand, for every loss and penalty.

    Args:
        model: The model without wrappers.
        config: The `loss` group.
        loss: The loss built from it, used for its value only.
        penalty: What is added to it.

    Raises:
        ConfigError: Model or loss have no derivation.
    """

    builds_graph = False

    def __init__(self, model: nn.Module, config: LossConfig, loss: LossFunction, penalty: Penalty) -> None:
        self._loss, self._penalty = loss, penalty
        self._derivative = logit_derivative(config)
        self._derivation = derivation_of(model)

    @property
    def draws(self) -> bool:
        """Whether `forward` draws random numbers."""
        return self._derivation.draws

    @torch.no_grad()
    def forward(self, features: Tensor, targets: Tensor, *, update_statistics: bool = True) -> Tensor:
        """See `GradientMethod`.

        Args:
            features: (batch, ...).
            targets: (batch,).
            update_statistics: Whether running statistics move; not when another forward moves them already.
        """
        self._logits = self._derivation.forward(features, update_statistics=update_statistics)
        self._targets = targets
        loss = self._loss(self._logits, targets)
        return self._penalty.add_to(loss) if self._penalty.active else loss

    def gradients(self, share: float) -> Iterator[ParameterGradient]:
        """The parts of the gradient of the latest `forward`, times share; a parameter may come twice."""
        yield from self._derivation.gradients(self._derivative(self._logits, self._targets, share))
        for parameter, gradient in self._penalty.derivatives():
            if parameter.requires_grad:
                yield parameter, gradient if share == 1.0 else gradient * share

    @torch.no_grad()
    def backward(self, loss: Tensor, share: float) -> None:
        """See `GradientMethod`."""
        for parameter, gradient in self.gradients(share):
            accumulate(parameter, gradient)

    def differences(self) -> dict[str, Tensor]:
        """Nothing is compared."""
        return {}

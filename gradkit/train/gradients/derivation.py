"""What a hand-derived model offers: its forward pass, and the gradient of its parameters from that of its logits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

ParameterGradient = tuple[Tensor, Tensor]
"""A parameter and a new tensor of its shape that nothing else refers to."""


class Derivation(Protocol):
    """One model's chain rule; called with autograd switched off."""

    @property
    def draws(self) -> bool:
        """Whether the forward pass draws random numbers in the model's present mode."""

    def forward(self, features: Tensor, *, update_statistics: bool) -> Tensor:
        """Logits (batch,); keeps what `gradients` needs.

        Args:
            features: (batch, ...).
            update_statistics: Whether running statistics move, as they do in the model's own forward.
        """

    def gradients(self, dl_dz: Tensor) -> Iterable[ParameterGradient]:
        """The gradient of every trainable parameter for the latest `forward`.

        Args:
            dl_dz: Derivative of the loss by each logit, (batch,).
        """

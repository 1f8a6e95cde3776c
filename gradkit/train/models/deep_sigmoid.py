"""Many narrow sigmoid layers, whose gradients vanish on their way down."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradkit.train.schema.models import DeepSigmoidModel


class DeepSigmoid(nn.Module):
    """`depth` linear layers with a sigmoid each, and a linear layer to one logit; torch's default initialisation.

    A sigmoid's slope is at most 1/4, so the gradient loses that factor and more at every layer.

    Args:
        config: Depth and width.
        features: Number of features; images are flattened.
    """

    def __init__(self, config: DeepSigmoidModel, features: int) -> None:
        super().__init__()
        widths = [features, *[config.width] * config.depth]
        self.hidden = nn.ModuleList(nn.Linear(inputs, config.width) for inputs in widths[:-1])
        self.output = nn.Linear(config.width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch,) of features (batch, ...)."""
        features = features.flatten(1)
        for layer in self.hidden:
            features = torch.sigmoid(layer(features))
        return self.output(features).squeeze(-1)  # type: ignore[no-any-return]

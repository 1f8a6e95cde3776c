"""A small convolutional network for the 8 x 8 digits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradkit.errors import ConfigError
from gradkit.train.schema.models import CnnDigitsModel

IMAGE_SHAPE = (1, 8, 8)


class CnnDigits(nn.Module):
    """Two 3 x 3 convolutions, each with ReLU and 2 x 2 max-pooling, then dropout and a linear layer to one logit.

    Args:
        config: Channels and dropout.
        input_shape: Shape of one sample.

    Raises:
        ConfigError: Samples are not images of shape (1, 8, 8).
    """

    def __init__(self, config: CnnDigitsModel, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        if input_shape != IMAGE_SHAPE:
            raise ConfigError(
                f"model=cnn_digits takes images of shape {IMAGE_SHAPE}; the data has {input_shape}."
                " Use data=digits_odd."
            )
        self.first = nn.Conv2d(1, config.channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(config.channels, 2 * config.channels, kernel_size=3, padding=1)
        self.output = nn.Linear(2 * config.channels * 2 * 2, 1)
        self.dropout = config.dropout

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch,) of images (batch, 1, 8, 8)."""
        features = F.max_pool2d(torch.relu(self.first(features)), 2)
        features = F.max_pool2d(torch.relu(self.second(features)), 2).flatten(1)
        if self.dropout > 0 and self.training:
            features = F.dropout(features, self.dropout)
        return self.output(features).squeeze(-1)  # type: ignore[no-any-return]

"""A multi-layer perceptron with optional batch normalisation and dropout."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradkit.errors import ConfigError
from gradkit.train.schema.models import MlpModel

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class HiddenLayer(nn.Module):
    """Linear, then batch normalisation if asked for, then the activation, then dropout if asked for.

    In front of a batch normalisation the linear layer has no bias. Subtracting the mean would cancel it, so its
    gradient is zero but for rounding, and optimizers that divide by the gradient's own size (Adam, RMSprop, Adagrad)
    would blow that rounding up to full steps.
    """

    def __init__(self, inputs: int, width: int, config: MlpModel) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width, bias=not config.batch_norm)
        self.norm = nn.BatchNorm1d(width) if config.batch_norm else None
        self.activation = config.activation
        self.dropout = config.dropout

    def forward(self, features: Tensor) -> Tensor:
        """Activations (batch, width) of features (batch, inputs)."""
        result: Tensor = self.linear(features)
        if self.norm is not None:
            refuse_one_sample(result, self.norm)
            result = self.norm(result)
        result = ACTIVATIONS[self.activation](result)
        if self.dropout > 0 and self.training:
            result = F.dropout(result, self.dropout)
        return result


class Mlp(nn.Module):
    """Hidden layers and a linear layer to one logit, with torch's default initialisation.

    Args:
        config: Widths, activation, dropout and batch normalisation.
        features: Number of features; images are flattened.

    Raises:
        ConfigError: There is no hidden layer, or the activation is unknown.
    """

    def __init__(self, config: MlpModel, features: int) -> None:
        super().__init__()
        if not config.hidden:
            raise ConfigError("model.hidden: expected at least one width; without hidden layers use model=logistic.")
        if config.activation not in ACTIVATIONS:
            raise ConfigError(f"model.activation={config.activation!r}: expected one of {', '.join(ACTIVATIONS)}.")
        widths = [features, *config.hidden]
        self.hidden = nn.ModuleList(
            HiddenLayer(inputs, width, config) for inputs, width in zip(widths, config.hidden, strict=False)
        )
        self.output = nn.Linear(widths[-1], 1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch,) of features (batch, ...)."""
        features = features.flatten(1)
        for layer in self.hidden:
            features = layer(features)
        return self.output(features).squeeze(-1)  # type: ignore[no-any-return]


def refuse_one_sample(batch: Tensor, norm: nn.BatchNorm1d) -> None:
    """Refuse to normalise a single sample in training; torch's own message names no setting.

    Raises:
        ConfigError: The micro-batch holds one sample.
    """
    if norm.training and batch.shape[0] == 1:
        raise ConfigError(
            "model.batch_norm=true cannot normalise a micro-batch of one sample, and one came; choose a"
            " trainer.batch_size that does not leave a single sample at the end of an epoch."
        )

"""The notebook's model: two scalars, z = w x + b, on one feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradkit.errors import ConfigError
from gradkit.train.schema.models import NotebookModel


class Notebook(nn.Module):
    """z = w x + b on one feature; `w` and `b` are 0-dim parameters, as in the notebook.

    Args:
        config: Initial values and the index of the feature.
        features: Number of features in the data.

    Raises:
        ConfigError: The index is not a feature of the data.
    """

    def __init__(self, config: NotebookModel, features: int) -> None:
        super().__init__()
        if not 0 <= config.feature < features:
            raise ConfigError(
                f"model.feature={config.feature}: the data has {features} feature(s); expected 0 to {features - 1}."
            )
        self.w = nn.Parameter(torch.tensor(float(config.w)))
        self.b = nn.Parameter(torch.tensor(float(config.b)))
        self.feature = config.feature

    def column(self, features: Tensor) -> Tensor:
        """The one feature of a batch, (batch,); a view where the layout allows one."""
        return features.flatten(1)[:, self.feature]

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch,) of features (batch, ...)."""
        return self.w * self.column(features) + self.b

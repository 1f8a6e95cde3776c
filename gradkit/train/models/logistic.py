"""Logistic regression on all features."""

from __future__ import annotations

from torch import Tensor, nn


class Logistic(nn.Module):
    """z = x . w + b over all features, started at zero.

    The loss is convex in w and b, so no random start is needed, and two runs differ in nothing but their data.

    Args:
        features: Number of features; images are flattened.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch,) of features (batch, ...)."""
        if features.ndim != 2:
            features = features.flatten(1)
        return self.linear(features).squeeze(-1)  # type: ignore[no-any-return]

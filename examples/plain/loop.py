"""A hand-written loop: logistic regression on 569 tumours, in micro-batches of 16 and windows of four."""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

MICRO_BATCH = 16
WINDOW = 4
"""Micro-batches per optimizer step."""


def load() -> tuple[Tensor, Tensor]:
    """Standardised features, (569, 30), and labels, (569,), float32; 1 is benign."""
    features, labels = load_breast_cancer(return_X_y=True)
    table = torch.from_numpy(features)
    return ((table - table.mean(0)) / table.std(0)).float(), torch.from_numpy(labels).float()


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(30, 1)


def loss_of(logits: Tensor, labels: Tensor, positive_weight: float = 0.6) -> Tensor:
    """Weighted cross-entropy of logits: benign samples count less, because there are more of them."""
    weights = torch.where(labels > 0, positive_weight, 1.0).to(logits)
    each = nn.functional.softplus(logits) - labels * logits
    return (weights * each).mean()


def gradient_by_hand(logits: Tensor, labels: Tensor, positive_weight: float = 0.6) -> Tensor:
    """The derivative of `loss_of` by the logits: weight (sigma(z) - y) / n."""
    weights = torch.where(labels > 0, positive_weight, 1.0).to(logits)
    return weights * (torch.sigmoid(logits) - labels) / labels.numel()


def train(model: nn.Module, features: Tensor, labels: Tensor, epochs: int = 5) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for x, y in zip(features.split(MICRO_BATCH * WINDOW), labels.split(MICRO_BATCH * WINDOW), strict=True):
            optimizer.zero_grad()
            for part, target in zip(x.split(MICRO_BATCH), y.split(MICRO_BATCH), strict=True):
                loss = loss_of(model(part).squeeze(-1), target)
                (loss * len(target) / len(y)).backward()
            optimizer.step()
    return model


def accuracy(model: nn.Module, features: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float(((model(features).squeeze(-1) > 0) == (labels > 0)).float().mean())

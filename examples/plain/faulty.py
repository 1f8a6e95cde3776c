"""The same loop after two innocent edits; both still learn."""

from __future__ import annotations

import torch
from loop import MICRO_BATCH, WINDOW, loss_of
from torch import Tensor, nn


def clears_once_per_epoch(model: nn.Module, features: Tensor, labels: Tensor, epochs: int = 5) -> nn.Module:
    """`zero_grad` moved out of the inner loop: every step of an epoch adds to the gradients of those before."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        optimizer.zero_grad()
        for x, y in zip(features.split(MICRO_BATCH * WINDOW), labels.split(MICRO_BATCH * WINDOW), strict=True):
            loss_of(model(x).squeeze(-1), y).backward()
            optimizer.step()
    return model


def clears_every_micro_batch(model: nn.Module, features: Tensor, labels: Tensor, epochs: int = 5) -> nn.Module:
    """`zero_grad` moved into the innermost loop: three of four micro-batches are computed for nothing."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for x, y in zip(features.split(MICRO_BATCH * WINDOW), labels.split(MICRO_BATCH * WINDOW), strict=True):
            for part, target in zip(x.split(MICRO_BATCH), y.split(MICRO_BATCH), strict=True):
                optimizer.zero_grad()
                (loss_of(model(part).squeeze(-1), target) * len(target) / len(y)).backward()
            optimizer.step()
    return model

"""Logistic regression in a plain loop with a learning rate thousands of times too large."""

import torch
from torch import nn


def train(rate):
    torch.manual_seed(0)
    true = torch.randn(12)
    model = nn.Linear(12, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(40):
        x = torch.randn(64, 12)
        y = (x @ true + torch.randn(64) > 0).float()
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(-1), y).backward()
        optimizer.step()  # expect: GK404
    return model


def main():
    return train(1000.0)


def repaired():
    return train(0.3)

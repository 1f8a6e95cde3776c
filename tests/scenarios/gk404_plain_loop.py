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


def repaired_regression():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
    for _ in range(40):
        x = torch.randn(16, 6)
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True)).pow(2).mean().backward()
        optimizer.step()
    return model


def faulty_overflow_in_a_few_steps():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
    for _ in range(40):
        x = torch.randn(16, 6)
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True)).pow(2).mean().backward()
        optimizer.step()  # expect: GK404
    return model


def healthy_one_broken_batch():
    """A NaN in the data loses the weights too, and says nothing about the learning rate."""
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(60):
        x = torch.randn(16, 6)
        if step == 3:
            x[0] = float("nan")
        optimizer.zero_grad()
        (model(x) - torch.nan_to_num(x).sum(1, keepdim=True)).pow(2).mean().backward()
        optimizer.step()
    return model

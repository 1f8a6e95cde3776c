"""A script that warms up its learning rate before each step instead of after it."""

import warnings

import torch
from torch import nn


def train(early):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, total_iters=5)
    for _ in range(8):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).pow(2).mean().backward()
        if early:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                schedule.step()  # expect: GK405
        optimizer.step()
        if not early:
            schedule.step()
    return model


def main():
    return train(early=True)


def repaired():
    return train(early=False)

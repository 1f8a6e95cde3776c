"""Activations computed again inside the backward."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential


def train(forward, zero_first=True, accumulate=1):
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(6):
        optimizer.zero_grad()
        for _ in range(accumulate):
            x = torch.randn(6, 4, requires_grad=True)
            (forward(model, x).square().mean() / accumulate).backward()
        optimizer.step()
    return model


def healthy_reentrant():
    return train(lambda model, x: model[3:](checkpoint(model[:3], x, use_reentrant=True)))


def healthy_not_reentrant():
    return train(
        lambda model, x: checkpoint(model[3:], checkpoint(model[:3], x, use_reentrant=False), use_reentrant=False)
    )


def healthy_sequential():
    return train(lambda model, x: checkpoint_sequential(model, 2, x, use_reentrant=True))


def healthy_reentrant_accumulating():
    return train(lambda model, x: model[3:](checkpoint(model[:3], x, use_reentrant=True)), accumulate=3)

"""Activations recomputed in the backward, in both modes of torch's checkpointing."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

# The reentrant mode runs a backward inside the backward, which the monitor says it cannot see into.
WATCH = {"ignore": ("GK901",)}


def block(before, after):
    return nn.Sequential(nn.Linear(before, after), nn.Tanh(), nn.Dropout(0.1))


def healthy_checkpointing():
    torch.manual_seed(18)
    first, second, head = block(6, 8), block(8, 8), nn.Linear(8, 1)
    parameters = [p for part in (first, second, head) for p in part.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    for _ in range(12):
        x = torch.randn(8, 6).requires_grad_()
        hidden = checkpoint(first, x, use_reentrant=False)
        hidden = checkpoint(second, hidden, use_reentrant=True)
        optimizer.zero_grad()
        head(hidden).pow(2).mean().backward()
        optimizer.step()
    return [first, second, head]

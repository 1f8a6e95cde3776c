"""A running total is back-propagated: each step goes through the losses of all earlier ones again."""

import torch
from torch import nn

FIRST_STEP = 11


def train(carry, steps=20, retain=True):
    torch.manual_seed(4)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    total = torch.zeros(())
    for _ in range(steps):
        x = torch.randn(8, 6)
        loss = nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(1), (x[:, 0] > 0).float())
        total = carry(total) + loss  # expect: GK202
        optimizer.zero_grad()
        total.backward(retain_graph=retain)
        optimizer.step()
    return model


def main():
    return train(lambda total: total)


def repaired():
    return train(lambda total: total.detach(), retain=False)


def healthy_short_total():
    return train(lambda total: total, steps=8)


def healthy_overlapping_windows_of_forty():
    """Truncated back-propagation through time, a step at a time over the last forty: the state is cut, late."""
    torch.manual_seed(6)
    bias = nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([bias], lr=1e-3)
    state = torch.zeros(2, 4)
    for step in range(90):
        state = 0.9 * state + torch.randn(2, 4) + bias
        optimizer.zero_grad()
        state.pow(2).mean().backward(retain_graph=True)
        optimizer.step()
        if step % 40 == 39:
            state = state.detach()
    return [bias]

"""A loop that clears through `.data`, which leaves no version behind, and stops to clear late in the run."""

import torch
from torch import nn

WATCH = {"budget": 1.0}


def train(until):
    torch.manual_seed(9)
    model = nn.Linear(5, 2)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    for number in range(40):
        for parameter in model.parameters():
            if parameter.grad is not None and number < until:
                parameter.grad.data.zero_()
        model(torch.randn(6, 5)).square().mean().backward()
        optimizer.step()  # expect: GK101
    return model


def main():
    return train(until=30)


def repaired():
    return train(until=40)

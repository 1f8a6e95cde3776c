"""step called twice on one gradient."""

import torch
from torch import nn


def main():
    torch.manual_seed(1)
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 5)).pow(2).mean()
        loss.backward()
        optimizer.step()
        optimizer.step()  # expect: GK103
    return model


def repaired():
    torch.manual_seed(1)
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 5)).pow(2).mean()
        loss.backward()
        optimizer.step()
    return model

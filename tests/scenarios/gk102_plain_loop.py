"""zero_grad between backward and step."""

import torch
from torch import nn

FIRST_STEP = 0


def main():
    torch.manual_seed(1)
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        loss = model(torch.randn(8, 5)).pow(2).mean()
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()  # expect: GK102
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

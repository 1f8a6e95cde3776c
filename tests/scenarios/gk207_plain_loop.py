"""A plain script with a retain_graph=True left over from an experiment."""

import torch
from torch import nn

FIRST_STEP = 5


def train(**options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(9):
        x = torch.randn(16, 5)
        loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward(**options)  # expect: GK207
        optimizer.step()
    return model


def main():
    return train(retain_graph=True)


def repaired():
    return train()

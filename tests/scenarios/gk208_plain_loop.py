"""A plain script that clips its weights between the forward and the backward."""

import torch
from torch import nn


def clip(model):
    for parameter in model.parameters():
        parameter.data.clamp_(-0.2, 0.2)


def train(late):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(9):
        x = torch.randn(16, 5)
        if late:
            clip(model)
        loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        if not late:
            for parameter in model.parameters():
                parameter.data.clamp_(-0.2, 0.2)  # expect: GK208
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def main():
    return train(late=False)


def repaired():
    return train(late=True)

"""A plain script whose learning rate was computed by whole-number division."""

import torch
from torch import nn


def train(rate, steps=26):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for _ in range(steps):
        x = torch.randn(16, 4)
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # expect: GK403
    return model


def main():
    return train(32 // 256)


def repaired():
    return train(32 / 256)


def repaired_and_stopped_before_it_could_be_known():
    return train(0.0, steps=19)

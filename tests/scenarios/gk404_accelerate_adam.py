"""An Accelerate loop with Adam at the learning rate of another library's step size."""

import torch
from accelerate import Accelerator
from torch import nn

NEEDS = ("accelerate",)


def train(rate):
    torch.manual_seed(5)
    accelerator = Accelerator(cpu=True)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    model, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=rate))
    for _ in range(30):
        x = torch.randn(32, 8)
        loss = nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long() + (x[:, 1] > 0).long())
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()  # expect: GK404
    return model


def main():
    return train(10.0)


def repaired():
    return train(1e-2)

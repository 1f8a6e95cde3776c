"""An Accelerate loop whose flags were set by hand on every module."""

import torch
from accelerate import Accelerator
from torch import nn

NEEDS = ("accelerate",)


def train(flag):
    torch.manual_seed(5)
    accelerator = Accelerator(cpu=True)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model, optimizer = accelerator.prepare(model, optimizer)
    for module in model.modules():
        module.training = flag
    for _ in range(6):
        optimizer.zero_grad()
        accelerator.backward(model(torch.randn(8, 4)).pow(2).mean())
        optimizer.step()  # expect: GK204
    return model


def main():
    return train(False)


def repaired():
    return train(True)

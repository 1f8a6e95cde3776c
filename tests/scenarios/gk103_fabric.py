"""A Fabric loop that steps for every logged value, not for every backward."""

import logging

import torch
from lightning.fabric import Fabric
from torch import nn

NEEDS = ("lightning",)


def train(repeats):
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    torch.manual_seed(4)
    fabric = Fabric(accelerator="cpu", devices=1)
    model = nn.Linear(4, 1)
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.01))
    for _ in range(4):
        optimizer.zero_grad()
        loss = model(torch.randn(6, 4)).square().mean()
        fabric.backward(loss)
        for _ in range(repeats):
            optimizer.step()  # expect: GK103
    return model.module


def main():
    return train(repeats=2)


def repaired():
    return train(repeats=1)

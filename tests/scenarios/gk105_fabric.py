"""Fabric leaves the scaling of an accumulated loss to its user, who did not think of it."""

import logging

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NEEDS = ("lightning",)


def train(loss_of):
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    torch.manual_seed(3)
    fabric = Fabric(accelerator="cpu", devices=1)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    model, optimizer = fabric.setup(module, torch.optim.SGD(module.parameters(), lr=0.05))
    loader = fabric.setup_dataloaders(DataLoader(TensorDataset(torch.randn(80, 4)), batch_size=4))
    for _ in range(3):
        for index, (x,) in enumerate(loader):
            fabric.backward(loss_of(model(x), x.sum(1, keepdim=True)))  # expect: GK105
            if index % 2 == 1:
                optimizer.step()
                optimizer.zero_grad()
    return module


def main():
    return train(nn.functional.mse_loss)


def repaired():
    return train(lambda output, target: 0.5 * nn.functional.mse_loss(output, target))

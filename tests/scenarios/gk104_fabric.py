"""A Fabric loop that accumulates by hand and forgets the end of the pass; its loader fetches ahead nothing."""

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NEEDS = ("lightning",)


def train(drop):
    torch.manual_seed(3)
    fabric = Fabric(accelerator="cpu", devices=1)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.05))
    loader = fabric.setup_dataloaders(DataLoader(TensorDataset(torch.randn(20 if drop else 16, 4)), batch_size=4))
    for _ in range(4):
        for index, (x,) in enumerate(loader):
            fabric.backward(model(x).pow(2).mean() / 2)
            if index % 2 == 1:
                optimizer.step()  # expect: GK104
                optimizer.zero_grad()
    return model


def main():
    return train(drop=True)


def repaired():
    return train(drop=False)

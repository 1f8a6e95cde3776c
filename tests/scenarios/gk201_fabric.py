"""A Fabric loop that tests once, after training, in train mode and with gradients on."""

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NEEDS = ("lightning",)


def train(careful):
    torch.manual_seed(3)
    fabric = Fabric(accelerator="cpu", devices=1)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.05))
    for _ in range(8):
        optimizer.zero_grad()
        fabric.backward(model(torch.randn(8, 4)).pow(2).mean())
        optimizer.step()
    held_out = fabric.setup_dataloaders(DataLoader(TensorDataset(torch.randn(24, 4)), batch_size=8))
    with torch.set_grad_enabled(not careful):
        for (x,) in held_out:
            print(f"{model(x).mean().item():.4f}")  # expect: GK201
    return model


def main():
    return train(careful=False)


def repaired():
    return train(careful=True)

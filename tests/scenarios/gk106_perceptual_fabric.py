"""A generator trained through a fixed critic under Fabric; the critic still requires gradients."""

import torch
from lightning.fabric import Fabric
from torch import nn

NEEDS = ("lightning",)


def run(freeze):
    torch.manual_seed(1)
    fabric = Fabric(accelerator="cpu", devices=1)
    generator = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6))
    critic = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1)).eval()
    if freeze:
        critic.requires_grad_(False)
    optimizer = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
    generator, optimizer = fabric.setup(generator, optimizer)
    for _ in range(6):
        optimizer.zero_grad()
        fabric.backward(critic(generator(torch.randn(8, 4))).mean())  # expect: GK106
        optimizer.step()
    return [generator, critic]


def main():
    return run(freeze=False)


def repaired():
    return run(freeze=True)

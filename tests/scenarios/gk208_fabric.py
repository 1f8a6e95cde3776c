"""A Fabric loop that loads a flat vector of weights between the forward and the backward."""

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

NEEDS = ("lightning",)


def train(early):
    torch.manual_seed(3)
    fabric = Fabric(accelerator="cpu", devices=1)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.05))
    for _ in range(8):
        optimizer.zero_grad()
        vector = parameters_to_vector(model.parameters()).detach() * 0.9
        if not early:
            vector_to_parameters(vector, model.parameters())
        loss = model(torch.randn(8, 4)).pow(2).mean()
        if early:
            vector_to_parameters(vector, model.parameters())  # expect: GK208
        fabric.backward(loss)
        optimizer.step()
    return model


def main():
    return train(early=True)


def repaired():
    return train(early=False)

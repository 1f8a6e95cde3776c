"""An optimizer of one's own under Fabric that updates a copy instead of the parameter."""

import torch
from lightning.fabric import Fabric
from torch import nn

NEEDS = ("lightning",)


class Descent(torch.optim.Optimizer):
    def __init__(self, parameters, lr, in_place):
        super().__init__(parameters, {"lr": lr})
        self.in_place = in_place

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                target = parameter if self.in_place else parameter.clone()
                target -= group["lr"] * parameter.grad


def train(in_place):
    torch.manual_seed(2)
    fabric = Fabric(accelerator="cpu", devices=1)
    model = nn.Sequential(nn.Linear(5, 10), nn.Tanh(), nn.Linear(10, 2))
    model, optimizer = fabric.setup(model, Descent(model.parameters(), 0.1, in_place))
    for _ in range(24):
        x = torch.randn(8, 5)
        optimizer.zero_grad()
        fabric.backward(nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long()))
        optimizer.step()  # expect: GK403
    return model


def main():
    return train(in_place=False)


def repaired():
    return train(in_place=True)

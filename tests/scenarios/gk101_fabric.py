"""A Fabric trainer whose micro-batches are never cleared after the update."""

import logging

import torch
from lightning.fabric import Fabric
from torch import nn

NEEDS = ("lightning",)


class Trainer:
    def __init__(self, window, clears):
        logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
        torch.manual_seed(4)
        self.fabric = Fabric(accelerator="cpu", devices=1)
        model = nn.Linear(4, 1)
        self.model, self.optimizer = self.fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.01))
        self.window, self.clears = window, clears

    def batch(self, number, x):
        last = (number + 1) % self.window == 0
        with self.fabric.no_backward_sync(self.model, enabled=not last):
            self.fabric.backward(self.model(x).square().mean() / self.window)
        if last:
            self.update()

    def update(self):
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=0.5)
        self.optimizer.step()  # expect: GK101
        if self.clears:
            self.optimizer.zero_grad()

    def fit(self):
        for number in range(12):
            self.batch(number, torch.randn(6, 4))
        return self.model.module


def main():
    return Trainer(window=3, clears=False).fit()


def repaired():
    return Trainer(window=3, clears=True).fit()

"""An experiment class whose reset builds a new model and keeps the old optimizer."""

import torch
from torch import nn


class Experiment:
    def __init__(self):
        self.model = self.build()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)  # expect: GK402

    @staticmethod
    def build():
        return nn.Sequential(nn.Linear(3, 6), nn.GELU(), nn.Linear(6, 2))

    def reset(self, optimizer_too):
        self.model = self.build()
        if optimizer_too:
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)

    def run(self, steps):
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.loss(torch.randn(9, 3)).backward()
            self.optimizer.step()
        return self.model

    def loss(self, x):
        return nn.functional.cross_entropy(self.model(x), x.argmax(1) % 2)


def folds(optimizer_too):
    torch.manual_seed(6)
    experiment = Experiment()
    trained = [experiment.run(5)] if optimizer_too else []
    experiment.reset(optimizer_too)
    return [*trained, experiment.run(7)]


def main():
    return folds(optimizer_too=False)


def repaired():
    return folds(optimizer_too=True)

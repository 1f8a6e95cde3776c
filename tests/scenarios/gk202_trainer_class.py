"""A trainer whose helper adds every loss to a running total."""

import torch
from torch import nn


class Trainer:
    def __init__(self, detach):
        torch.manual_seed(2)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
        self.detach = detach
        self.total = torch.zeros(())
        self.history = {"outputs": []}

    def step(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def batches(self, count):
        for _ in range(count):
            yield torch.randn(8, 6), torch.randint(3, (8,))


class RunningTotal(Trainer):
    def update(self, loss):
        value = loss.detach() if self.detach else loss
        self.total = self.total + value  # expect: GK202

    def fit(self):
        for x, y in self.batches(16):
            loss = nn.functional.cross_entropy(self.model(x), y)
            self.step(loss)
            self.update(loss)
        return self.model


def main():
    return RunningTotal(detach=False).fit()


def repaired():
    return RunningTotal(detach=True).fit()

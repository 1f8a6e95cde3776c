"""A trainer that keeps the outputs of all batches for a metric."""

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


class KeptOutputs(Trainer):
    def forward(self, x):
        return self.model(x)  # expect: GK202

    def fit(self):
        for x, y in self.batches(16):
            outputs = self.forward(x)
            self.step(nn.functional.cross_entropy(outputs, y))
            self.history["outputs"].append(outputs.detach() if self.detach else outputs)
        return self.model


def main():
    return KeptOutputs(detach=False).fit()


def repaired():
    return KeptOutputs(detach=True).fit()

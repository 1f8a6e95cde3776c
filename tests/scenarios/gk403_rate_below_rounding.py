"""A class-based trainer that multiplies its learning rate twice, down to where every update is lost in rounding."""

import torch
from torch import nn


class Trainer:
    def __init__(self, rate):
        torch.manual_seed(1)
        self.model = nn.Linear(6, 3)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=0.01)

    def loss(self, x):
        return nn.functional.cross_entropy(self.model(x), x[:, :3].argmax(1))

    def apply(self, loss):
        loss.backward()
        self.optimizer.step()  # expect: GK403
        self.optimizer.zero_grad()

    def fit(self):
        for _ in range(3):
            for _ in range(8):
                self.apply(self.loss(torch.randn(12, 6)))
        return self.model


def main():
    return Trainer(1e-4 * 1e-8).fit()


def repaired():
    return Trainer(1e-4).fit()

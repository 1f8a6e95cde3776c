"""A trainer class around a regression that diverges: the learning rate is beyond what the curvature allows."""

import torch
from torch import nn


class Regression:
    def __init__(self, rate):
        torch.manual_seed(3)
        self.net = nn.Linear(8, 2)
        self.optimizer = torch.optim.SGD(self.net.parameters(), rate)
        self.generator = torch.Generator().manual_seed(9)

    def batches(self, number):
        for _ in range(number):
            yield torch.randn(32, 8, generator=self.generator)

    def step(self):
        self.optimizer.step()  # expect: GK404
        self.optimizer.zero_grad()

    def run(self):
        for x in self.batches(24):
            nn.functional.mse_loss(self.net(x), x[:, :2] * 3).backward()
            self.step()
        return self.net


def main():
    return Regression(3.0).run()


def repaired():
    return Regression(0.1).run()

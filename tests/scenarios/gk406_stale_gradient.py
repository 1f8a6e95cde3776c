"""A trainer whose helper clears the gradients of trainable parameters only, so frozen ones keep their last."""

import torch
from torch import nn


class Finetuner:
    def __init__(self, clear_all):
        torch.manual_seed(1)
        self.clear_all = clear_all
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-2)

    def freeze(self, layer):
        layer.requires_grad_(False)

    def clear(self):
        for parameter in self.net.parameters():
            if parameter.requires_grad or self.clear_all:
                parameter.grad = None

    def step(self, x):
        self.clear()
        nn.functional.cross_entropy(self.net(x), (x[:, 0] > 0).long()).backward()
        self.optimizer.step()  # expect: GK406

    def fit(self):
        for step in range(16):
            if step == 6:
                self.freeze(self.net[0])
            self.step(torch.randn(8, 4))
        return self.net


def main():
    return Finetuner(clear_all=False).fit()


def repaired():
    return Finetuner(clear_all=True).fit()

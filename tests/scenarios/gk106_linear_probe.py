"""A linear probe, as a class, over a backbone that was never frozen."""

import torch
from torch import nn


class Probe:
    def __init__(self, freeze):
        torch.manual_seed(8)
        self.net = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 4))
        if freeze:
            for parameter in self.net[:4].parameters():
                parameter.requires_grad = False
        self.optimizer = torch.optim.Adam(self.net[4].parameters(), lr=1e-2)

    def step(self, x, y):
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.update(loss)
        return loss

    def update(self, loss):
        self.optimizer.zero_grad()
        loss.backward()  # expect: GK106
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()

    def fit(self):
        for _ in range(6):
            x = torch.randn(8, 10)
            self.step(x, x[:, :4].argmax(1))
        return self.net


def main():
    return Probe(freeze=False).fit()


def repaired():
    return Probe(freeze=True).fit()

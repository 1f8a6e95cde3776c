"""An updater by hand of the slow half of a model whose turn never comes: its count starts anew in each epoch."""

import torch
from torch import nn


class SlowDescent:
    """Averages the gradients of several steps and follows them once."""

    def __init__(self, module, every):
        self.parameters, self.every, self.count = list(module.parameters()), every, 0

    def tick(self):
        self.count += 1
        if self.count == self.every:
            self.apply()

    @torch.no_grad()
    def apply(self):
        for parameter in self.parameters:
            parameter -= 0.1 * parameter.grad / self.every
            parameter.grad.zero_()
        self.count = 0


class Learner:
    def __init__(self, restarts):
        torch.manual_seed(6)
        self.restarts = restarts
        self.encoder = nn.Sequential(nn.Linear(7, 20), nn.Tanh(), nn.Linear(20, 12))
        self.readout = nn.Linear(12, 3)
        self.network = nn.Sequential(self.encoder, nn.Tanh(), self.readout)
        self.fast = torch.optim.RMSprop(self.encoder.parameters(), lr=1e-3)  # expect: GK401
        self.slow = SlowDescent(self.readout, every=6)

    def epoch(self, batches=5):
        if self.restarts:
            self.slow.count = 0
        for _ in range(batches):
            x = torch.randn(14, 7)
            loss = nn.functional.cross_entropy(self.network(x), x[:, :3].argmax(1))
            self.fast.zero_grad()
            loss.backward()
            self.fast.step()
            self.slow.tick()


def train(restarts):
    learner = Learner(restarts)
    for _ in range(4):
        learner.epoch()
    return learner.network


def main():
    return train(restarts=True)


def repaired():
    return train(restarts=False)

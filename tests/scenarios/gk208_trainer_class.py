"""A trainer class that puts the averaged weights in place too early: before the backward."""

import copy

import torch
from torch import nn


class Trainer:
    def __init__(self, early):
        torch.manual_seed(2)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
        self.early = early

    def pull(self):
        for kept, moved in zip(self.average.parameters(), self.model.parameters(), strict=True):
            kept.lerp_(moved.detach(), 0.5)
            moved.data = kept.clone()  # expect: GK208

    def step(self):
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(torch.randn(8, 6)), torch.randint(3, (8,)))
        if self.early:
            self.pull()
        loss.backward()
        self.optimizer.step()
        if not self.early:
            self.pull()

    def fit(self):
        for _ in range(8):
            self.step()
        return self.model


def main():
    return Trainer(early=True).fit()


def repaired():
    return Trainer(early=False).fit()

"""A trainer class in the style of torch before 1.1: the scheduler steps at the start of every epoch."""

import warnings

import torch
from torch import nn


class Trainer:
    def __init__(self, old_style):
        torch.manual_seed(4)
        self.old_style = old_style
        self.net = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 2))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [2, 4], gamma=0.1)

    def train_epoch(self):
        for _ in range(3):
            x = torch.randn(6, 5)
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.net(x), (x[:, 0] > 0).long()).backward()
            self.optimizer.step()

    def fit(self, epochs=4):
        for _ in range(epochs):
            if self.old_style:
                self.scheduler.step()  # expect: GK405
            self.train_epoch()
            if not self.old_style:
                self.scheduler.step()
        return self.net


def main():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Trainer(old_style=True).fit()


def repaired():
    return Trainer(old_style=False).fit()

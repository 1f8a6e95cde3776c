"""A trainer whose helper throws gradients away: always in the faulty run, for outliers alone in the repaired ones."""

import torch
from torch import nn


def forget(parameters):
    for parameter in parameters:
        if parameter.grad is None:
            continue
        parameter.grad = None


class Trainer:
    limit = 40.0

    def __init__(self):
        torch.manual_seed(3)
        self.model = nn.Sequential(nn.Linear(5, 14), nn.Tanh(), nn.Linear(14, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.02, momentum=0.9)

    def batches(self, number=24):
        for index in range(number):
            x = torch.randn(10, 5)
            yield x, x.sum(1, keepdim=True) * (60.0 if index % 7 in (4, 5, 6) else 1.0)

    def differentiate(self, x, y):
        loss = nn.functional.mse_loss(self.model(x), y)
        loss.backward()
        return torch.stack([p.grad.norm() for p in self.model.parameters()]).norm().item()

    def discard(self):
        forget(self.model.parameters())

    def update(self):
        self.optimizer.step()  # expect: GK102
        forget(self.model.parameters())

    def train_step(self, x, y):
        self.differentiate(x, y)
        self.discard()
        self.update()

    def fit(self):
        for x, y in self.batches():
            self.train_step(x, y)
        return self.model


class AsksFirst(Trainer):
    """The condition stands where the helper is called."""

    def train_step(self, x, y):
        norm = self.differentiate(x, y)
        if norm > self.limit:
            self.discard()
        self.update()


class AsksInside(Trainer):
    """The helper itself decides, and leaves early."""

    def train_step(self, x, y):
        self.norm = self.differentiate(x, y)
        self.discard()
        self.update()

    def discard(self):
        if self.norm <= self.limit:
            return
        forget(self.model.parameters())


class AsksWithinTheExpression(Trainer):
    def train_step(self, x, y):
        self.differentiate(x, y) > self.limit and self.discard()
        self.update()


def main():
    return Trainer().fit()


def repaired():
    return AsksFirst().fit()


def repaired_by_a_helper_that_decides():
    return AsksInside().fit()


def repaired_in_one_expression():
    return AsksWithinTheExpression().fit()


def repaired_in_a_script():
    """Many episodes of large gradients: after some of them the windows are no longer measured."""
    torch.manual_seed(4)
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def drop():
        optimizer.zero_grad()

    for index in range(120):
        x = torch.randn(6, 5) * (80.0 if index % 8 in (5, 6, 7) else 1.0)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        if model.weight.grad.norm() > 25.0:
            drop()
        optimizer.step()
    return model

"""A trainer whose step helper clears first; in place, through `.data`, by None."""

import torch
from torch import nn


class Trainer:
    def __init__(self, clear):
        torch.manual_seed(2)
        self.model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.clear = clear

    def reset(self):
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                self.clear(parameter)

    def backward(self, x):
        self.model(x).pow(2).mean().backward()

    def apply(self):
        self.reset()
        self.optimizer.step()  # expect: GK102

    def fit(self):
        for _ in range(4):
            self.backward(torch.randn(8, 4))
            self.apply()
        return self.model


class RepairedTrainer(Trainer):
    def apply(self):
        self.optimizer.step()
        self.reset()


def to_none(parameter):
    parameter.grad = None


def main():
    return [
        Trainer(lambda parameter: parameter.grad.zero_()).fit(),
        Trainer(lambda parameter: parameter.grad.data.zero_()).fit(),
        Trainer(to_none).fit(),
    ]


def repaired():
    return [
        RepairedTrainer(lambda parameter: parameter.grad.zero_()).fit(),
        RepairedTrainer(lambda parameter: parameter.grad.data.zero_()).fit(),
        RepairedTrainer(to_none).fit(),
    ]

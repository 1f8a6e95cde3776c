"""A trainer that carries a recurrent state over all steps and retains the graphs to silence torch's error."""

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


class CarriedState(Trainer):
    """A recurrent state carried over all steps; retaining the graphs is what made the error message go away."""

    def __init__(self, detach):
        super().__init__(detach)
        self.cell = nn.Linear(3, 3)
        self.optimizer = torch.optim.SGD([self.cell.bias], lr=1e-3)

    def fit(self):
        state = torch.zeros(4, 3)
        for _ in range(60):
            state = state * 0.5 + self.cell.bias  # expect: GK202
            self.optimizer.zero_grad()
            (state - 1).pow(2).mean().backward(retain_graph=not self.detach)
            self.optimizer.step()
            if self.detach:
                state = state.detach()
        return self.cell


def main():
    return CarriedState(detach=False).fit()


def repaired():
    return CarriedState(detach=True).fit()

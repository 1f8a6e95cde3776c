"""A trainer class whose network keeps its blocks in a plain Python list."""

import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, keep):
        super().__init__()
        self.layers = keep([nn.Linear(5, 12), nn.Linear(12, 12)])
        self.out = nn.Linear(12, 1)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.out(x)


class Trainer:
    def __init__(self, keep):
        torch.manual_seed(4)
        self.model = Network(keep)
        self.optimizer = self.make_optimizer()

    def make_optimizer(self):
        return torch.optim.SGD(self.model.parameters(), lr=0.05)  # expect: GK401

    def train_step(self, x, y):
        self.optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.mse_loss(self.model(x).squeeze(-1), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def fit(self, epochs=2):
        generator = torch.Generator().manual_seed(7)
        for _ in range(epochs):
            for _ in range(4):
                x = torch.randn(10, 5, generator=generator)
                print(f"{self.train_step(x, x.sum(1)):.4f}")
        return [self.model, *self.model.layers]


def main():
    return Trainer(list).fit()


def repaired():
    return Trainer(nn.ModuleList).fit()

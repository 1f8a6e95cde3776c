"""A trainer class whose helper clears the gradients of another optimizer."""

import torch
from torch import nn


class Trainer:
    def __init__(self, cleared):
        torch.manual_seed(2)
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.head = nn.Linear(8, 3)
        self.encoder_optimizer = torch.optim.Adam(self.encoder.parameters(), lr=1e-2)
        self.head_optimizer = torch.optim.Adam(self.head.parameters(), lr=1e-2)
        self.cleared = cleared

    def clear(self):
        for name in self.cleared:
            getattr(self, name).zero_grad()

    def loss(self, x, y):
        return nn.functional.cross_entropy(self.head(self.encoder(x)), y)

    def update(self):
        self.encoder_optimizer.step()
        self.head_optimizer.step()  # expect: GK101

    def fit(self, batches):
        for x, y in batches:
            self.clear()
            self.loss(x, y).backward()
            self.update()
        return [self.encoder, self.head]


def batches():
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(16, 6, generator=generator), torch.randint(3, (16,), generator=generator)) for _ in range(5)]


def main():
    return Trainer(["encoder_optimizer"]).fit(batches())


def repaired():
    return Trainer(["encoder_optimizer", "head_optimizer"]).fit(batches())

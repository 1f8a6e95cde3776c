"""A trainer class whose model encodes in a method that was decorated for evaluation."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def encode(self, x):
        return torch.relu(self.norm(self.embed(x)))

    def forward(self, x):
        return self.head(self.encode(x))


class Cut(Net):
    @torch.no_grad()  # expect: GK203
    def encode(self, x):
        return super().encode(x)

    def forward(self, x):
        features = self.encode(x)
        return self.head(features)


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)

    def step(self):
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(torch.randn(8, 6)), torch.randint(3, (8,))).backward()
        self.optimizer.step()

    def fit(self):
        for _ in range(9):
            self.step()
        return self.model


def main():
    torch.manual_seed(2)
    return Trainer(Cut()).fit()


def repaired():
    torch.manual_seed(2)
    return Trainer(Net()).fit()

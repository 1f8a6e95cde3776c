"""A trainer class whose evaluation helper switches the mode of a loaded model and returns early."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Linear(8, 3)

    def forward(self, x):
        return self.second(self.drop(torch.relu(self.first(x))))

    @classmethod
    def pretrained(cls):
        """Like `from_pretrained` of a model hub: the model comes in eval mode."""
        return cls().eval()  # expect: GK204


class Trainer:
    def __init__(self, prepare):
        torch.manual_seed(2)
        self.model = prepare(Net.pretrained())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)

    def step(self):
        x, y = torch.randn(8, 6), torch.randint(3, (8,))
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()

    def fit(self):
        for _ in range(5):
            self.step()
        return self.model


def as_loaded(model):
    return model


def main():
    return Trainer(as_loaded).fit()


def repaired():
    return Trainer(nn.Module.train).fit()

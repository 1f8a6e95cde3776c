"""A plain fine-tuning script that replaces the head after the optimizer was built."""

import torch
from torch import nn


class Classifier(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        return self.head(self.body(x))


def fit(model, optimizer, steps=8):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(16, 6, generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()
    return model


def main():
    torch.manual_seed(0)
    model = Classifier(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)  # expect: GK401
    model.head = nn.Linear(16, 2)
    return fit(model, optimizer)


def repaired():
    torch.manual_seed(0)
    model = Classifier(10)
    model.head = nn.Linear(16, 2)
    return fit(model, torch.optim.Adam(model.parameters(), lr=1e-2))

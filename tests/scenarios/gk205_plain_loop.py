"""A plain script that validates without gradients and forgets model.eval()."""

import torch
from torch import nn


def train(switch):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    held_out = [torch.randn(16, 5) for _ in range(3)]
    for epoch in range(3):
        model.train()
        for _ in range(5):
            x = torch.randn(16, 5)
            loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if switch:
            model.eval()
        with torch.no_grad():
            total = 0.0
            for x in held_out:
                total += (model(x) - x.sum(1, keepdim=True)).pow(2).mean()  # expect: GK205
        print(f"epoch {epoch}: {total / 3:.4f}")
    return model


def main():
    return train(switch=False)


def repaired():
    return train(switch=True)

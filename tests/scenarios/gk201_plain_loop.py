"""A plain script that evaluates in eval mode and forgets no_grad."""

import contextlib

import torch
from torch import nn


def train(context):
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
        model.eval()
        total = 0.0
        with context():
            for x in held_out:
                total += (model(x) - x.sum(1, keepdim=True)).pow(2).mean().item()  # expect: GK201
        print(f"epoch {epoch}: {total / 3:.4f}")
    return model


def main():
    return train(contextlib.nullcontext)


def repaired():
    return train(torch.no_grad)

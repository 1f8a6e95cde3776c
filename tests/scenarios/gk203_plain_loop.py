"""A plain script that detaches the features it means to train."""

import torch
from torch import nn

FIRST_STEP = 5


def train(features):
    torch.manual_seed(1)
    encoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
    head = nn.Linear(8, 1)
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
    for _ in range(9):
        x = torch.randn(16, 5)
        hidden = features(encoder(x))
        loss = (head(hidden) - x.sum(1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [encoder, head]


def main():
    return train(lambda hidden: hidden.detach())  # expect: GK203


def repaired():
    return train(lambda hidden: hidden)

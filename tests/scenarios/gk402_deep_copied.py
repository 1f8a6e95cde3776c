"""A script that trains a copy of the model the optimizer was built for."""

import copy

import torch
from torch import nn


def train(model, optimizer):
    for _ in range(6):
        x = torch.randn(16, 4)
        loss = nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(-1), (x[:, 0] > 0).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def main():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)  # expect: GK402
    backup, net = net, copy.deepcopy(net)
    train(net, optimizer)
    return [net, backup]


def repaired():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    backup = copy.deepcopy(net)
    train(net, optimizer)
    return [net, backup]

"""A script that fine-tunes: the weights were saved of the model inside a wrapper, and none of the names fits."""

import torch
from torch import nn


class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.model(x)


def saved():
    torch.manual_seed(0)
    return Wrapper().state_dict()


def train(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(torch.randn(16, 6)), torch.randint(0, 2, (16,))).backward()
        optimizer.step()
    return net


def main():
    state = saved()
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    net.load_state_dict(state, strict=False)  # expect: GK409
    return train(net)


def repaired():
    state = {key.removeprefix("model."): value for key, value in saved().items()}
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    net.load_state_dict(state, strict=False)
    return train(net)

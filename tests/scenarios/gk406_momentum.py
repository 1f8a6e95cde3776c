"""A script that freezes the backbone after an epoch; zeroed gradients and momentum go on moving it."""

import torch
from torch import nn


def train(to_none):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(3):
        if epoch == 1:
            optimizer.zero_grad(set_to_none=to_none)
            for parameter in model[0].parameters():
                parameter.requires_grad = False
        for _ in range(5):
            x = torch.randn(10, 5)
            optimizer.zero_grad(set_to_none=to_none)
            nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
            optimizer.step()  # expect: GK406
    return model


def main():
    return train(to_none=False)


def repaired():
    return train(to_none=True)

"""Gradients cleared once per epoch in place of once per step, cleared in place."""

import torch
from torch import nn


def train(per_step):
    torch.manual_seed(4)
    x, y = torch.randn(48, 4), torch.randn(48, 1)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad(set_to_none=False)
        for start in range(0, 48, 16):
            if per_step:
                optimizer.zero_grad(set_to_none=False)
            loss = nn.functional.mse_loss(model(x[start : start + 16]), y[start : start + 16])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()  # expect: GK101
    return model


def main():
    return train(per_step=False)


def repaired():
    return train(per_step=True)

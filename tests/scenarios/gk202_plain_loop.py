"""A plain script that keeps the losses of all steps for a plot, with their graphs."""

import torch
from torch import nn

FIRST_STEP = 11


def train(keep):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(20):
        x = torch.randn(16, 5)
        loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()  # expect: GK202
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(keep(loss))
        print(f"{step}: {losses[-1]:.4f}")
    return model


def main():
    return train(lambda loss: loss)


def repaired():
    return train(lambda loss: loss.item())


def healthy_keeps_detached_losses():
    return train(lambda loss: loss.detach())

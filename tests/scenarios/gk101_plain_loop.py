"""A plain script that never calls zero_grad; found at its second step."""

import torch
from torch import nn

FIRST_STEP = 1


def main():
    torch.manual_seed(1)
    x = torch.randn(64, 5)
    y = (x.sum(1, keepdim=True) > 0).float()
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(4):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
        loss.backward()
        optimizer.step()  # expect: GK101
        print(f"epoch {epoch}: {loss.item():.4f}")
    return model


def repaired():
    torch.manual_seed(1)
    x = torch.randn(64, 5)
    y = (x.sum(1, keepdim=True) > 0).float()
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(4):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
    return model

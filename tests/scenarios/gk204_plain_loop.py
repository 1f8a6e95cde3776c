"""A plain script that validates after its first epoch and never goes back to train mode."""

import torch
from torch import nn

FIRST_STEP = 5


def train(back):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    held_out = torch.randn(16, 5)
    for epoch in range(4):
        for _ in range(4):
            x = torch.randn(16, 5)
            loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch == 0:
            model.eval()  # expect: GK204
            with torch.no_grad():
                print(f"{model(held_out).mean():.4f}")
            if back:
                model.train()
    return model


def main():
    return train(back=False)


def repaired():
    return train(back=True)

"""A plain script that steps every four batches and adds up their losses as they are; a pass over a loader shows it."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ACCUMULATE = 4


def train(divide):
    torch.manual_seed(1)
    loader = DataLoader(TensorDataset(torch.randn(96, 5), torch.randint(3, (96,))), batch_size=4, shuffle=True)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    optimizer.zero_grad()
    for _ in range(2):
        for index, (x, y) in enumerate(loader, 1):
            loss = nn.functional.cross_entropy(model(x), y)
            if divide:
                loss = loss / ACCUMULATE
            loss.backward()  # expect: GK105
            if index % ACCUMULATE == 0:
                optimizer.step()
                optimizer.zero_grad()
    return model


def main():
    return train(divide=False)


def repaired():
    return train(divide=True)

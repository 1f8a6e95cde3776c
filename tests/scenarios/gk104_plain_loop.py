"""A plain script whose accumulation counts batches anew in each pass: ten batches do not fill windows of four."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ACCUMULATE = 4


def train(at_the_end):
    torch.manual_seed(1)
    loader = DataLoader(TensorDataset(torch.randn(40, 5)), batch_size=4)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        for index, (x,) in enumerate(loader):
            loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean() / ACCUMULATE
            loss.backward()
            if (index + 1) % ACCUMULATE == 0 or (at_the_end and index + 1 == len(loader)):
                optimizer.step()  # expect: GK104
                optimizer.zero_grad()
    return model


def main():
    return train(at_the_end=False)


def repaired():
    return train(at_the_end=True)

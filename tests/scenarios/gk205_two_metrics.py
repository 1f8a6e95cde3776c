"""Loss and accuracy on one loader, each in a pass of its own, by functions that leave the mode to their caller."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Judge:
    def __init__(self, model, loader, mode):
        self.model, self.loader, self.mode = model, loader, mode

    @torch.no_grad()
    def loss(self):
        return sum(nn.functional.cross_entropy(self.model(x), y).item() for x, y in self.loader)  # expect: GK205

    @torch.no_grad()
    def accuracy(self):
        return sum((self.model(x).argmax(1) == y).sum().item() for x, y in self.loader)

    def __call__(self):
        self.model.train(self.mode)
        print(f"{self.loss():.4f} {self.accuracy()}")
        self.model.train()


def train(mode):
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Dropout(0.4), nn.Linear(16, 3))
    optimizer = torch.optim.Adamax(model.parameters(), lr=1e-2)
    x = torch.randn(60, 4)
    data = TensorDataset(x, x[:, :3].argmax(1))
    judge = Judge(model, DataLoader(data, batch_size=20), mode)
    for _ in range(3):
        for inputs, labels in DataLoader(data, batch_size=12, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        judge()
    return model


def main():
    return train(mode=True)


def repaired():
    return train(mode=False)

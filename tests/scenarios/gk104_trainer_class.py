"""A trainer class that clears its gradients when an epoch begins, and with them what the last one left over."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, count):
        torch.manual_seed(2)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
        data = TensorDataset(torch.randn(count, 6), torch.randint(3, (count,)))
        self.loader = DataLoader(data, batch_size=4)
        self.held_out = DataLoader(data, batch_size=8)

    def update(self):
        self.optimizer.step()  # expect: GK104
        self.optimizer.zero_grad(set_to_none=False)

    def epoch(self):
        self.optimizer.zero_grad(set_to_none=False)
        for index, (x, y) in enumerate(self.loader, 1):
            (nn.functional.cross_entropy(self.model(x), y) / 3).backward()
            if index % 3 == 0:
                self.update()

    @torch.no_grad()
    def validate(self):
        print(f"{sum(nn.functional.cross_entropy(self.model(x), y) for x, y in self.held_out):.4f}")

    def fit(self):
        for _ in range(3):
            self.epoch()
            self.validate()
        return self.model


def main():
    return Trainer(count=28).fit()


def repaired():
    return Trainer(count=24).fit()

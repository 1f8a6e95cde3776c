"""A trainer class that collects the outputs of its evaluation, with their graphs, over data loaders."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x))


class Trainer:
    def __init__(self, keep):
        torch.manual_seed(2)
        self.model = Net()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
        self.training_data = self.loader(24)
        self.held_out = self.loader(12)
        self.keep = keep

    def loader(self, count):
        return DataLoader(TensorDataset(torch.randn(count, 6), torch.randint(3, (count,))), batch_size=4)

    def epoch(self):
        self.model.train()
        for x, y in self.training_data:
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()

    def predict(self):
        self.model.eval()
        return torch.cat([self.model(x) for x, _ in self.held_out])  # expect: GK201

    def fit(self):
        for _ in range(3):
            self.epoch()
            with torch.set_grad_enabled(self.keep):
                print(f"{self.predict().std().item():.4f}")
        return self.model


def main():
    return Trainer(keep=True).fit()


def repaired():
    return Trainer(keep=False).fit()

"""A trainer class whose decorated helper predicts over a loader with dropout on."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, helper):
        torch.manual_seed(2)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
        self.training_data, self.held_out = self.loader(24), self.loader(12)
        self.helper = helper

    def loader(self, count):
        return DataLoader(TensorDataset(torch.randn(count, 6), torch.randint(3, (count,))), batch_size=4)

    def epoch(self):
        for x, y in self.training_data:
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()

    @torch.inference_mode()
    def accuracy(self):
        right = [(self.model(x).argmax(1) == y).float().mean() for x, y in self.held_out]  # expect: GK205
        return sum(right) / len(right)

    def fit(self):
        for _ in range(3):
            self.model.train()
            self.epoch()
            self.helper(self.model)
            print(f"{self.accuracy():.4f}")
        return self.model


def main():
    return Trainer(lambda model: model).fit()


def repaired():
    return Trainer(lambda model: model.eval()).fit()

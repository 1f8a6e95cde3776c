"""A flush after every epoch that finds nothing to flush and steps on the last batch once more."""

import torch
from torch import nn


class Trainer:
    def __init__(self):
        torch.manual_seed(8)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.optimizer = torch.optim.RMSprop(self.model.parameters(), lr=1e-2)

    def update(self, x):
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(x), (x[:, 0] > 0).long()).backward()
        self.optimizer.step()

    def flush(self):
        self.optimizer.step()  # expect: GK103

    def fit(self, flush):
        for _ in range(4):
            for x in torch.randn(6, 8, 4):
                self.update(x)
            flush()
        return self.model


def main():
    trainer = Trainer()
    return trainer.fit(trainer.flush)


def repaired():
    return Trainer().fit(lambda: None)

"""A trainer that averages its micro-batches by dividing the gradients, and forgets to clear them afterwards."""

import torch
from torch import nn


class Trainer:
    def __init__(self, model, micro_batches, clears):
        self.model, self.micro_batches, self.clears = model, micro_batches, clears
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def accumulate(self, batches):
        for x, y in batches:
            nn.functional.mse_loss(self.model(x), y).backward()

    def average(self):
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad /= self.micro_batches

    def update(self):
        self.average()
        self.optimizer.step()  # expect: GK101
        if self.clears:
            self.optimizer.zero_grad()

    def fit(self, batches):
        for start in range(0, len(batches), self.micro_batches):
            self.accumulate(batches[start : start + self.micro_batches])
            self.update()
        return self.model


def run(clears):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 1))
    batches = [(torch.randn(8, 5), torch.randn(8, 1)) for _ in range(12)]
    return Trainer(model, 3, clears).fit(batches)


FIRST_STEP = 1


def main():
    return run(clears=False)


def repaired():
    return run(clears=True)

"""A warmup that divides whole numbers: the factor of the learning rate is 0 in every step of the run."""

import torch
from torch import nn

WARMUP = 200


def whole(step):
    return min(1, step // WARMUP)


def fraction(step):
    return min(1.0, step / WARMUP)


class Trainer:
    def __init__(self, factor, lr=1e-2):
        torch.manual_seed(6)
        self.model = nn.Sequential(nn.Linear(5, 12), nn.GELU(), nn.Linear(12, 3))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=0.1)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def update(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()  # expect: GK403
        self.schedule.step()

    def fit(self, steps=60):
        for _ in range(steps):
            x = torch.randn(16, 5)
            self.update(nn.functional.cross_entropy(self.model(x), x[:, :3].argmax(1)))
        return self.model


def main():
    return Trainer(whole).fit()


def repaired():
    return Trainer(fraction).fit()


def repaired_by_a_longer_run():
    return Trainer(whole).fit(steps=WARMUP + 10)


def repaired_by_an_epoch_at_zero_and_later_ones():
    return Trainer(lambda step: 0.0 if step < 40 else 1.0).fit()


def repaired_and_stopped_before_it_could_be_known():
    return Trainer(whole).fit(steps=19)

"""A trainer class over slices of tensors whose user has declared three micro-batches; no loader is needed then."""

import torch
from torch import nn

WATCH = {"accumulate": 3}


class Trainer:
    def __init__(self, share):
        torch.manual_seed(2)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
        self.share = share
        self.features, self.targets = torch.randn(72, 6), torch.randn(72, 1)

    def loss(self, x, y):
        residual = nn.functional.smooth_l1_loss(self.model(x), y)
        return residual * self.share + self.share * 1e-3 * residual if self.share != 1 else residual

    def window(self, micro_batches):
        self.optimizer.zero_grad(set_to_none=False)
        for x, y in micro_batches:
            self.loss(x, y).backward()  # expect: GK105
        self.optimizer.step()

    def fit(self):
        pairs = list(zip(self.features.split(6), self.targets.split(6), strict=True))
        for start in range(0, len(pairs), 3):
            self.window(pairs[start : start + 3])
        return self.model


def main():
    return Trainer(share=1).fit()


def repaired():
    return Trainer(share=1 / 3).fit()

"""A trainer class resumes a run that several devices had trained: their wrapper put a word before every name."""

import torch
from torch import nn


class Trainer:
    def __init__(self, state, strip):
        torch.manual_seed(2)
        self.net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-2)
        self.resume(state, strip)

    def resume(self, state, strip):
        if strip:
            state = {key.partition(".")[2]: value for key, value in state.items()}
        self.net.load_state_dict(state, strict=False)  # expect: GK409

    def fit(self, steps):
        for _ in range(steps):
            loss = self.net(torch.randn(8, 5)).pow(2).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return self.net


def checkpoint():
    torch.manual_seed(3)
    return nn.DataParallel(nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))).state_dict()


def main():
    return Trainer(checkpoint(), strip=False).fit(4)


def repaired():
    return Trainer(checkpoint(), strip=True).fit(4)

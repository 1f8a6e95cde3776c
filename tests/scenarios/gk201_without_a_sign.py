"""Validation that neither changes the mode, nor disables gradients, nor uses a data loader: nothing announces it."""

import torch
from torch import nn


class Learner:
    def __init__(self):
        torch.manual_seed(0)
        self.body, self.head = nn.GRU(3, 6, batch_first=True), nn.Linear(6, 1)
        self.optimizer = torch.optim.Adam([*self.body.parameters(), *self.head.parameters()], lr=1e-2)

    def epoch(self, train):
        for _ in range(8):
            x = torch.randn(4, 5, 3)
            loss = (self.head(self.body(x)[0][:, -1]) - x.sum((1, 2))[:, None]).pow(2).mean()  # expect: GK201
            if train:
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            print(f"{loss.item():.4f}")


def main():
    learner = Learner()
    for _ in range(6):
        learner.epoch(train=True)
        learner.epoch(train=False)
    return [learner.body, learner.head]


def repaired():
    learner = Learner()
    for _ in range(6):
        learner.epoch(train=True)
        with torch.no_grad():
            learner.epoch(train=False)
    return [learner.body, learner.head]


def healthy_sequences_of_every_length():
    """The graphs grow as training goes on, and every one of them is used."""
    torch.manual_seed(0)
    cell, head = nn.GRUCell(3, 6), nn.Linear(6, 1)
    optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=1e-2)
    for step in range(60):
        state = torch.zeros(4, 6)
        for _ in range(1 + step // 4):
            state = cell(torch.randn(4, 3), state)
        optimizer.zero_grad()
        head(state).pow(2).mean().backward()
        optimizer.step()
    return [cell, head]

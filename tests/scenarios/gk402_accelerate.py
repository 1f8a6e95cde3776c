"""An Accelerate loop that prepares one model and builds the optimizer from another."""

import torch
from accelerate import Accelerator
from torch import nn

NEEDS = ("accelerate",)


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def train(right):
    torch.manual_seed(5)
    accelerator = Accelerator(cpu=True)
    student, other = build(), build()
    optimizer = torch.optim.AdamW((student if right else other).parameters(), lr=1e-2)  # expect: GK402
    student, optimizer = accelerator.prepare(student, optimizer)
    for _ in range(6):
        accelerator.backward(student(torch.randn(8, 4)).pow(2).mean())
        optimizer.step()
        optimizer.zero_grad()
    return [student, other]


def main():
    return train(right=False)


def repaired():
    return train(right=True)

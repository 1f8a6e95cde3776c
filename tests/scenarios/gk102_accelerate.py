"""An Accelerate loop that clears right after the backward."""

import torch
from accelerate import Accelerator
from torch import nn

NEEDS = ("accelerate",)


def train(clears_first):
    torch.manual_seed(3)
    accelerator = Accelerator(cpu=True)
    model = nn.Linear(4, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
    for _ in range(4):
        accelerator.backward(model(torch.randn(6, 4)).square().mean())
        if clears_first:
            optimizer.zero_grad()
            optimizer.step()  # expect: GK102
        else:
            optimizer.step()
            optimizer.zero_grad()
    return accelerator.unwrap_model(model)


def main():
    return train(clears_first=True)


def repaired():
    return train(clears_first=False)

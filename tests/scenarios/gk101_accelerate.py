"""An Accelerate loop without zero_grad."""

import torch
from accelerate import Accelerator
from torch import nn

NEEDS = ("accelerate",)


def train(clear):
    torch.manual_seed(5)
    accelerator = Accelerator(cpu=True)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model, optimizer = accelerator.prepare(model, optimizer)
    for _ in range(4):
        loss = model(torch.randn(8, 4)).pow(2).mean()
        accelerator.backward(loss)
        optimizer.step()  # expect: GK101
        if clear:
            optimizer.zero_grad()
    return model


def main():
    return train(clear=False)


def repaired():
    return train(clear=True)

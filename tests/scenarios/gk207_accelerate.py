"""An Accelerate loop that creates a second-order graph for a penalty that is switched off.

The penalty's own line could still run, so a hundred calls are awaited.
"""

import warnings

import torch
from accelerate import Accelerator
from torch import nn

NEEDS = ("accelerate",)


def penalize(model, optimizer):
    norm = sum(parameter.grad.pow(2).sum() for parameter in model.parameters())
    optimizer.zero_grad()
    norm.backward()


def train(steps, penalty, create):
    torch.manual_seed(5)
    accelerator = Accelerator(cpu=True)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model, optimizer = accelerator.prepare(model, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 4)).pow(2).mean()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a reference cycle
            accelerator.backward(loss, create_graph=create)  # expect: GK207
        if penalty:
            penalize(model, optimizer)
        optimizer.step()
    return model


def main():
    return train(24, penalty=False, create=True)


def repaired():
    return train(24, penalty=False, create=False)


def healthy_penalty_reads_the_gradient_graph():
    return train(24, penalty=True, create=True)

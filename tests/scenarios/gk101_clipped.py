"""Gradients clipped by norm before every step and never cleared: a scaled mixture is still a mixture."""

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_


def train(clear):
    torch.manual_seed(7)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(6):
        if clear:
            optimizer.zero_grad()
        model(torch.randn(16, 8)).square().mean().backward()
        clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()  # expect: GK101
    return model


def main():
    return train(clear=False)


def repaired():
    return train(clear=True)

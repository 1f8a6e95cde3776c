"""Gradual unfreezing that never tells the optimizer; the twin adds the parameters to it."""

import torch
from torch import nn


def run(tell, filtered=True):
    torch.manual_seed(2)
    backbone = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
    model = nn.Sequential(backbone, nn.Linear(32, 3))
    backbone.requires_grad_(False)
    trainable = [p for p in model.parameters() if p.requires_grad or not filtered]
    optimizer = torch.optim.AdamW(trainable, lr=1e-3)  # expect: GK401
    for epoch in range(4):
        if epoch == 1:
            backbone.requires_grad_(True)
            if tell:
                optimizer.add_param_group({"params": list(backbone.parameters()), "lr": 1e-4})
        for _ in range(8):
            x = torch.randn(12, 8)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
            optimizer.step()
    return model


def main():
    return run(tell=False)


def repaired():
    return run(tell=True)


def repaired_held_from_the_start():
    return run(tell=False, filtered=False)

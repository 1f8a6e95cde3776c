"""An Accelerate loop that keeps zero gradients on a frozen encoder, which weight decay then shrinks."""

import torch
from accelerate import Accelerator
from torch import nn

NEEDS = ("accelerate",)


def train(to_none):
    torch.manual_seed(2)
    accelerator = Accelerator(cpu=True)
    encoder, head = nn.Linear(6, 8), nn.Linear(8, 3)
    model = nn.Sequential(encoder, nn.ReLU(), head)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    for step in range(14):
        if step == 4:
            encoder.requires_grad_(False)
        x = torch.randn(8, 6)
        optimizer.zero_grad(set_to_none=to_none)
        accelerator.backward(nn.functional.cross_entropy(model(x), x[:, :3].argmax(1)))
        optimizer.step()  # expect: GK406
    return model


def main():
    return train(to_none=False)


def repaired():
    return train(to_none=True)

"""Accelerate: accumulation with a tail, clipping, a scheduler."""

import torch
from accelerate import Accelerator
from torch import nn

NEEDS = ("accelerate",)


def train(window, clip):
    torch.manual_seed(3)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=window)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(42, 4)), batch_size=6)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    for _ in range(2):
        for (x,) in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model(x).square().mean())
                if clip and accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
    return accelerator.unwrap_model(model)


def healthy_plain():
    return train(1, clip=False)


def healthy_accumulating():
    return train(3, clip=False)


def healthy_accumulating_clipped():
    return train(4, clip=True)

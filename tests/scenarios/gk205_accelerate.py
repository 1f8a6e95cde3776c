"""An Accelerate loop that tests after training, still in train mode."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NEEDS = ("accelerate",)


def train(switch):
    torch.manual_seed(5)
    accelerator = Accelerator(cpu=True)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=8)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in range(2):
        for (x,) in loader:
            optimizer.zero_grad()
            accelerator.backward(model(x).pow(2).mean())
            optimizer.step()
    if switch:
        model.eval()
    with torch.no_grad():
        print([f"{model(x).mean().item():.4f}" for (x,) in loader])  # expect: GK205
    return model


def main():
    return train(switch=False)


def repaired():
    return train(switch=True)

"""Correct ways to accumulate over the border of a pass: GK104 stays silent."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def start(seed, count=40):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    loader = DataLoader(TensorDataset(torch.randn(count, 5)), batch_size=4)
    return model, torch.optim.SGD(model.parameters(), lr=0.02), loader


def healthy_counter_over_all_passes():
    model, optimizer, loader = start(1)
    seen = 0
    for _ in range(4):
        for (x,) in loader:
            (model(x).pow(2).mean() / 4).backward()
            seen += 1
            if seen % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
    return model


def healthy_endless_stream():
    model, optimizer, loader = start(2)

    def stream():
        while True:
            yield from loader

    batches = stream()
    for _ in range(12):
        optimizer.zero_grad()
        for _ in range(4):
            (x,) = next(batches)
            (model(x).pow(2).mean() / 4).backward()
        optimizer.step()
    return model


def healthy_windows_that_grow():
    model, optimizer, loader = start(3)
    window, held = 1, 0
    for _ in range(4):
        for (x,) in loader:
            (model(x).pow(2).mean() / window).backward()
            held += 1
            if held >= window:
                optimizer.step()
                optimizer.zero_grad()
                held, window = 0, min(window + 1, 5)
    return model


def healthy_validation_inside_a_window():
    model, optimizer, loader = start(4, 48)
    held_out = DataLoader(TensorDataset(torch.randn(12, 5)), batch_size=4)
    for _ in range(3):
        for index, (x,) in enumerate(loader):
            (model(x).pow(2).mean() / 4).backward()
            if index % 4 == 1:
                with torch.no_grad():
                    print(f"{sum(model(v).mean() for (v,) in held_out):.4f}")
            if index % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    return model


def healthy_smaller_last_window():
    model, optimizer, loader = start(5)
    for _ in range(3):
        for index, (x,) in enumerate(loader):
            (model(x).pow(2).mean() / 4).backward()
            if index % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
        optimizer.step()
        optimizer.zero_grad()
    return model

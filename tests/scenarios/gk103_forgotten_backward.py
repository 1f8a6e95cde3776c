"""A loop that computes its loss and steps, and never calls backward."""

import torch
from torch import nn
from torch.nn import functional as F

FIRST_STEP = 1


def data():
    torch.manual_seed(3)
    features = torch.randn(64, 6)
    return features, (features[:, 0] > 0).long()


def main():
    features, targets = data()
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(features), targets)
        optimizer.step()  # expect: GK103
    print(f"{loss.item():.4f}")
    return model


def repaired():
    features, targets = data()
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(features), targets)
        loss.backward()
        optimizer.step()
    print(f"{loss.item():.4f}")
    return model


def healthy_learning_rate_curve():
    # Stepping an optimizer without gradients to read what a schedule will do.
    model = nn.Linear(6, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    rates = []
    for _ in range(20):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    print([f"{rate:.3f}" for rate in rates])
    return model


def healthy_evolution_strategy():
    # Forwards without autograd, gradients written by hand.
    features, targets = data()
    model = nn.Linear(6, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter) * F.cross_entropy(model(features), targets)
        optimizer.step()
    return model

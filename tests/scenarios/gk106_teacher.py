"""Distillation from a teacher that keeps its gradients on."""

import torch
from torch import nn


def run(frozen):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))
    student = nn.Linear(6, 3)
    teacher.requires_grad_(not frozen)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(7):
        x = torch.randn(16, 6)
        loss = nn.functional.mse_loss(student(x), teacher(x))
        optimizer.zero_grad()
        loss.backward()  # expect: GK106
        optimizer.step()
    return [student, teacher]


def main():
    return run(frozen=False)


def repaired():
    return run(frozen=True)


def faulty_features_of_both_compared():
    """The last bias cancels out of the difference: its gradient is zero, whatever is or is not cleared."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32))
    generator = nn.Linear(3, 6)
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
    for _ in range(10):
        made, wanted = generator(torch.randn(8, 3)), torch.randn(8, 6)
        optimizer.zero_grad()
        nn.functional.mse_loss(features(made), features(wanted)).backward()  # expect: GK106
        optimizer.step()
    return generator


def healthy_features_cleared_in_place():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32))
    generator = nn.Linear(3, 6)
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
    for _ in range(10):
        made, wanted = generator(torch.randn(8, 3)), torch.randn(8, 6)
        optimizer.zero_grad()
        features.zero_grad(set_to_none=False)
        nn.functional.mse_loss(features(made), features(wanted)).backward()
        optimizer.step()
    return generator

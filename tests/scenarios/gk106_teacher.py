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

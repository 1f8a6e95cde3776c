"""A finding that is made when watching ends halts nothing and keeps nobody from detaching."""

import pytest
import torch
from torch import nn

import gradkit
from gradkit.errors import HygieneError


def evaluate_with_gradients(model):
    model.eval()
    for _ in range(3):
        model(torch.randn(4, 3)).sum().item()


def test_a_finding_at_the_end_halts_nothing_and_all_observers_detach():
    model = nn.Linear(3, 1)
    with gradkit.watch(report="never", halt_on="warning") as monitor:
        evaluate_with_gradients(model)
    assert [finding.rule for finding in monitor.findings] == ["GK201"]
    assert monitor.attached == ()


def test_a_finding_during_training_halts_at_its_step():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train(steps):
        model.train()
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(4, 3)).sum().backward()
            optimizer.step()

    with (
        pytest.raises(HygieneError, match="GK201 grad-enabled-evaluation"),
        gradkit.watch(report="never", halt_on="GK201"),
    ):
        train(4)
        evaluate_with_gradients(model)
        train(8)

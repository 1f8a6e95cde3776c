"""Reading the source for what may still use a kept graph is no work for every step."""

from __future__ import annotations

import pytest
import torch

import gradkit
from gradkit.observe.observers import needless_retention


def test_the_source_is_not_read_again_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    original = needless_retention.may_differentiate_again

    def read(*given):
        reads.append(given)
        return original(*given)

    monkeypatch.setattr(needless_retention, "may_differentiate_again", read)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradkit.watch(report="never") as monitor:
        for _ in range(30):
            optimizer.zero_grad()
            model(torch.ones(3, 2)).sum().backward(retain_graph=True)
            optimizer.step()
    assert [finding.rule for finding in monitor.findings] == ["GK207"]
    assert 1 <= len(reads) <= 3

"""Records and tiny loops for the tests of the rules about optimizers and models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import gradkit
from gradkit.findings import Finding
from gradkit.records import Location, Membership, ParameterInfo

MADE = Location("train.py", 10, "main")
STEPPED = Location("train.py", 20, "main")
DEPOSITED = Location("train.py", 19, "main")


def parameters(*names: str, shape: tuple[int, ...] = (4, 4)) -> tuple[ParameterInfo, ...]:
    return tuple(ParameterInfo(name, shape, name.rpartition(".")[0]) for name in names)


def record(**changes: Any) -> Membership:
    """Two parameters of a head outside an optimizer that holds eight others of the model."""
    values: dict[str, Any] = {
        "optimizer": "Adam",
        "step": 2,
        "windows": 3,
        "model": "Net",
        "outside": parameters("head.weight", "head.bias"),
        "outside_numbers": 20,
        "held": 8,
        "held_numbers": 800,
        "owned": 8,
        "created_line": MADE,
        "step_line": STEPPED,
        "backward_line": DEPOSITED,
        "kept": True,
    }
    return Membership(**{**values, **changes})


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.body(torch.tanh(self.stem(x)))))


def train(model: nn.Module, optimizer: Any, steps: int, before_step: Callable[[int], None] | None = None) -> None:
    for index in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).pow(2).mean().backward()
        if before_step is not None:
            before_step(index)
        optimizer.step()


def watched(run: Callable[[], Any], *targets: Any, **options: Any) -> dict[str, Finding]:
    """Findings by code, crashes included."""
    with gradkit.watch(*targets, report="never", **options) as monitor:
        run()
    return {finding.rule: finding for finding in monitor.findings}

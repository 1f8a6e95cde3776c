"""The accounts of several optimizers against a second bookkeeping of what each gradient holds, over random programs."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

import gradkit


class Program:
    """Two models with an optimizer each, what a loop may do with them, and what every gradient then holds."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.models = [nn.Linear(3, 3), nn.Linear(3, 2)]
        self.optimizers = [torch.optim.SGD(model.parameters(), lr=0.01) for model in self.models]
        self.x = torch.randn(4, 3)
        self.consumed: set[int] = set()
        """Parameters whose gradient a step has consumed and nobody has cleared."""
        self.mixed: set[int] = set()
        """Those to which a backward has added since."""
        self.stepped_on_mixtures: list[int] = []
        """For every optimizer's step on one, the optimizer."""

    def backward(self, *models: int) -> None:
        out = self.x
        for model in models:
            out = self.models[model](out)
        out.square().mean().backward()
        for model in models:
            self.mixed |= {id(p) for p in self.models[model].parameters() if id(p) in self.consumed}

    def clear(self, model: int, how: str) -> None:
        for parameter in self.models[model].parameters():
            if how == "none":
                parameter.grad = None
            elif parameter.grad is not None:
                if how == "zeros":
                    parameter.grad.zero_()
                elif how == "data":
                    parameter.grad.data.zero_()
                else:
                    parameter.grad = torch.zeros_like(parameter)
            self.consumed.discard(id(parameter))
            self.mixed.discard(id(parameter))

    def step(self, model: int) -> None:
        parameters = list(self.models[model].parameters())
        if any(id(parameter) in self.mixed for parameter in parameters):
            self.stepped_on_mixtures.append(model)
        self.optimizers[model].step()
        self.consumed |= {id(parameter) for parameter in parameters if parameter.grad is not None}
        self.mixed -= {id(parameter) for parameter in parameters}

    def clip(self, model: int) -> None:
        nn.utils.clip_grad_norm_(self.models[model].parameters(), 0.5)


def turn(program: Program, model: int, how: str, style: random.Random) -> list[tuple[object, ...]]:
    """One model's part of an iteration, written in one of several ways."""
    losses = [[(program.backward, model)], [(program.backward, model)] * 2, [(program.backward, 0, 1)]]
    body: list[tuple[object, ...]] = [(program.clear, model, how), *style.choice(losses)]
    if style.random() < 0.3:
        body.append((program.clip, model))
    return [*body, (program.step, model)]


@pytest.mark.parametrize("seed", range(24))
def test_no_random_program_of_two_optimizers_is_accused_of_what_it_does_not_do(seed: int) -> None:
    style = random.Random(seed)
    program = Program()
    how = [style.choice(["none", "zeros", "data", "new"]) for _ in range(2)]
    habit = [*turn(program, 0, how[0], style), *turn(program, 1, how[1], style)]
    slips = style.choice([0.0, 0.02, 0.2])
    with gradkit.watch(report="never", select=("GK101",)) as monitor:
        for _ in range(15):
            for deed, *arguments in habit:
                if style.random() < slips and deed in (program.clear, program.backward):
                    continue  # forgotten this once
                assert callable(deed)
                deed(*arguments)
    accused = [finding.rule for finding in monitor.findings]
    assert not accused or program.stepped_on_mixtures


@pytest.mark.parametrize("forgetful", [0, 1])
@pytest.mark.parametrize("how", ["none", "zeros", "new"])
def test_what_one_of_two_optimizers_never_clears_is_found(forgetful: int, how: str) -> None:
    program = Program()
    with gradkit.watch(report="never", select=("GK101",)) as monitor:
        for _ in range(12):
            for model in (0, 1):
                if model != forgetful:
                    program.clear(model, how)
                program.backward(model)
                program.step(model)
    assert [finding.rule for finding in monitor.findings] == ["GK101"]
    assert monitor.findings[0].first_step == 1

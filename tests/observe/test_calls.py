"""What watching costs a loop, in calls of gradkit's functions a step: a number that no noisy machine can blur."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradkit
from gradkit.observe.tensors.measure import Reader

ROOT = str(Path(gradkit.__file__).parent)
CALM = 300
"""Steps after which the observers sleep that have seen enough."""
COUNTED = 41

Loop = Callable[[], None]


def _pair(width: int = 1) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(8, width)
    return model, torch.optim.SGD(model.parameters(), lr=1e-5)


def _loss(model: nn.Module) -> torch.Tensor:
    return (model(torch.ones(4, 8)) - 1).square().mean()


def plain() -> Loop:
    model, optimizer = _pair()

    def step() -> None:
        optimizer.zero_grad()
        _loss(model).backward()
        optimizer.step()

    return step


def zeros() -> Loop:
    model, optimizer = _pair()

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        _loss(model).backward()
        optimizer.step()

    return step


def accumulated() -> Loop:
    model, optimizer = _pair()

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(4):
            (_loss(model) / 4).backward()
        optimizer.step()

    return step


def in_turns() -> Loop:
    pairs = [_pair(), _pair()]

    def step() -> None:
        for model, optimizer in pairs:
            optimizer.zero_grad()
            _loss(model).backward()
            optimizer.step()

    return step


def adversarial() -> Loop:
    (generator, of_generator), (critic, of_critic) = _pair(8), _pair()

    def step() -> None:
        of_critic.zero_grad()
        fake = generator(torch.ones(4, 8))
        (critic(fake.detach()).mean() - critic(torch.ones(4, 8)).mean()).backward()
        of_critic.step()
        of_generator.zero_grad()
        (-critic(generator(torch.ones(4, 8))).mean()).backward()
        of_generator.step()

    return step


def not_cleared() -> Loop:
    model, optimizer = _pair()

    def step() -> None:
        _loss(model).backward()
        optimizer.step()

    return step


def calls(make: Callable[[], Loop], **options: Any) -> tuple[float, list[str]]:
    """Calls in the middle one of the steps after a calm stretch, and the codes of the findings."""
    torch.manual_seed(0)
    counts: list[int] = []

    def count(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ROOT):
            counts[-1] += 1

    before = sys.getprofile()
    with gradkit.watch(report="never", **options) as monitor:
        step = make()
        for _ in range(CALM):
            step()
        try:
            for _ in range(COUNTED):
                counts.append(0)
                sys.setprofile(count)
                step()
                sys.setprofile(before)
        finally:
            sys.setprofile(before)
    return statistics.median(counts), [finding.rule for finding in monitor.findings]


@pytest.mark.parametrize(
    ("make", "most", "options"),
    [
        (plain, 6, {}),
        (plain, 6, {"accumulate": 1}),
        (zeros, 24, {}),
        (accumulated, 4 * 12, {}),
        (accumulated, 4 * 12, {"accumulate": 4}),
        (in_turns, 2 * 24, {}),
        (adversarial, 2 * 26, {}),
    ],
)
def test_a_sound_loop_calls_gradkit_a_few_times_a_step(make, most, options) -> None:
    count, found = calls(make, **options)
    assert 0 < count <= most
    assert not found


def test_a_loop_whose_fault_is_known_reads_its_file_no_more() -> None:
    count, found = calls(not_cleared)
    assert found == ["GK101"]
    assert count <= 100


@pytest.mark.parametrize("make", [adversarial, in_turns, zeros, accumulated])
def test_a_sound_loop_queues_no_norm_after_its_first_windows(make, monkeypatch) -> None:
    queued: list[int] = []
    norms = Reader.norms

    def counting(reader: Reader, tensors: Any) -> Any:
        queued.append(len(tensors))
        return norms(reader, tensors)

    monkeypatch.setattr(Reader, "norms", counting)
    with gradkit.watch(report="never", select=("GK101", "GK102", "GK103")) as monitor:
        step = make()
        for _ in range(4):
            step()
        assert queued
        queued.clear()
        for _ in range(40):
            step()
    assert not queued
    assert not monitor.findings


@pytest.mark.parametrize("every", [1, 10])
def test_a_fault_that_comes_late_in_a_loop_of_two_optimizers_is_found(every) -> None:
    first, second = _pair(), _pair()
    with gradkit.watch(report="never", select=("GK101",)) as monitor:
        for step in range(80):
            for model, optimizer in (first, second):
                if optimizer is second[1] or step < 40 or step % every:
                    optimizer.zero_grad()
                _loss(model).backward()
                optimizer.step()
    assert [finding.rule for finding in monitor.findings] == ["GK101"]
    assert (monitor.findings[0].first_step or 0) >= 40

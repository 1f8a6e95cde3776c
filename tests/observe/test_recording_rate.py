"""The recording rate: forwards nobody back-propagates leave a surplus, training alone does not."""

from __future__ import annotations

import pytest
import torch

from gradkit.observe.books.recording_rate import RecordingRate

MODEL = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))


def loss() -> torch.Tensor:
    return MODEL(torch.ones(2, 3)).mean()


def learned() -> tuple[RecordingRate, int]:
    rate = RecordingRate()
    for call in range(3):
        assert not rate.surplus([loss()], call)
    return rate, 2


@pytest.mark.parametrize(("unused", "expected"), [(0, False), (1, False), (2, True), (20, True)])
@pytest.mark.parametrize("slept", [4, 30])
def test_two_unused_forwards_are_a_surplus(unused: int, slept: int, expected: bool) -> None:
    rate, calls = learned()
    for _ in range(slept - 1 + unused):
        loss()
    assert rate.surplus([loss()], calls + slept) is expected


def test_forwards_without_gradients_leave_none() -> None:
    rate, calls = learned()
    with torch.no_grad():
        for _ in range(50):
            loss()
    for _ in range(7):
        loss()
    assert not rate.surplus([loss()], calls + 8)


def test_roots_without_a_graph_say_nothing() -> None:
    rate, calls = learned()
    assert not rate.surplus([torch.ones(1)], calls + 4)
    assert not rate.surplus([loss()], calls + 8)

"""GK404: both ways for updates to be absurd, and the large updates that are not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from gradkit.findings import Severity
from gradkit.records import UpdateSizes
from gradkit.rules.gk404_update_out_of_range import UpdateOutOfRange
from tests.rules.membership import STEPPED, watched


def check(**changes: Any) -> list[Any]:
    values: dict[str, Any] = {
        "optimizer": "SGD",
        "step": 19,
        "ratios": (0.8,) * 20,
        "learning_rate": 100.0,
        "first_loss": 0.7,
        "losses": (5.0,) * 20,
        "step_line": STEPPED,
    }
    return list(UpdateOutOfRange().check([UpdateSizes(**{**values, **changes})]))


def test_updates_as_large_as_the_weights_are_a_warning_with_their_number() -> None:
    (finding,) = check()
    assert (finding.severity, finding.location) == (Severity.WARNING, STEPPED)
    assert "0.8 times the norm of the weights they changed" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {"ratios": (0.8,) * 19},
        {"ratios": (0.4,) * 20},
        {"ratios": (*(0.9,) * 19, 0.01)},
        {"ratios": (*(0.1,) * 19, math.inf)},
        {"ratios": (0.9, *(math.inf,) * 19)},
        {"ratios": (math.inf,) * 20},
        {"ratios": (0.9, 0.9, *(math.inf,) * 18), "losses": (0.7, 0.7, *(math.inf,) * 18)},
        {"losses": (*(0.9,) * 10, *(0.6,) * 10)},
        {"losses": (1.3,) * 20},
        {"losses": (math.nan,) * 20},
        {"first_loss": math.nan},
        {"of_modules": False},
    ],
    ids=str,
)
def test_it_is_silent(changes: dict[str, Any]) -> None:
    assert not check(**changes)


def test_weights_lost_before_enough_steps_count_when_the_loss_rose_before() -> None:
    (finding,) = check(ratios=(14.0, 36.0, 30.0, *(math.inf,) * 17), losses=(0.7, 32.0, 7e4, *(math.inf,) * 17))
    assert "30 times the norm of the weights they changed" in finding.message
    assert "until these were no longer finite after 3, and the loss rose from 0.7 to inf" in finding.message


def test_updates_far_larger_than_the_first_weights_count_as_long_as_every_one_is() -> None:
    (finding,) = check(ratios=(0.1,) * 20, against_start=(30.0,) * 20)
    assert "30 times the norm of the weights training began with" in finding.message
    assert "the loss rose from 0.7 to 5" in finding.message
    assert check(ratios=(0.1,) * 20, against_start=(*(30.0,) * 19, 3.0))
    assert not check(ratios=(0.1,) * 20, against_start=(*(30.0,) * 19, 2.9))
    assert check(ratios=(0.1,) * 20, against_start=(*(10.0,) * 11, *(4.0,) * 9))
    assert not check(ratios=(0.1,) * 20, against_start=(*(9.9,) * 11, *(40.0,) * 9))


def train(rate: float, steps: int, optimizer_class: Any = torch.optim.SGD) -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 3)
    optimizer = optimizer_class(model.parameters(), lr=rate)
    for _ in range(steps):
        x = torch.randn(32, 8)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), x[:, :3]).backward()
        optimizer.step()


@pytest.mark.parametrize(("steps", "expected"), [(19, set()), (20, {"GK404"}), (25, {"GK404"})])
def test_it_fires_at_the_twentieth_step(steps: int, expected: set[str]) -> None:
    found = watched(lambda: train(3.0, steps), select=["GK4"])
    assert set(found) == expected


@pytest.mark.parametrize("rate", [1e-4, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_rates_that_train_are_silent(rate: float, kind: Any) -> None:
    assert not watched(lambda: train(rate, 40, kind))


def test_the_ratio_is_the_true_one_where_everything_is_sampled() -> None:
    found = watched(lambda: train(3.0, 20))["GK404"]
    torch.manual_seed(0)
    model = nn.Linear(8, 3)
    ratios = []
    for _ in range(20):
        x = torch.randn(32, 8)
        model.zero_grad()
        nn.functional.mse_loss(model(x), x[:, :3]).backward()
        with torch.no_grad():
            size = torch.cat([p.flatten() for p in model.parameters()]).norm()
            change = 3.0 * torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
            ratios.append(float(change / size))
            for parameter in model.parameters():
                parameter -= 3.0 * parameter.grad
    median = sorted(ratios)[9:11]
    assert found.evidence["median_ratio"] == pytest.approx(sum(median) / 2, rel=1e-4)

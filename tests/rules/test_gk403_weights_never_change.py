"""GK403: proofs of standing still, and the reasons for which weights may stand still."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gradkit.findings import Severity
from gradkit.records import Stillness
from gradkit.rules.gk403_weights_never_change import WeightsNeverChange
from tests.rules.membership import STEPPED, Net, train, watched


def check(**changes: Any) -> list[Any]:
    values: dict[str, Any] = {
        "optimizer": "SGD",
        "step": 19,
        "steps": 20,
        "parameter_count": 6,
        "learning_rate": 0.0,
        "gradient_norm": 0.5,
        "weight_norm": 2.0,
        "step_line": STEPPED,
    }
    return list(WeightsNeverChange().check([Stillness(**{**values, **changes})]))


def test_a_rate_of_zero_is_an_error_at_the_step() -> None:
    (finding,) = check()
    assert (finding.severity, finding.location) == (Severity.ERROR, STEPPED)
    assert "20 steps of SGD at learning rate 0" in finding.message


def test_a_small_gradient_excuses_a_rate_that_is_not_zero() -> None:
    assert check(learning_rate=1e-12)
    assert not check(learning_rate=1e-12, gradient_norm=1e-4)
    assert check(learning_rate=0.0, gradient_norm=1e-4)
    assert not check(steps=19)


@pytest.mark.parametrize(("steps", "expected"), [(19, set()), (20, {"GK403"}), (90, {"GK403"})])
@pytest.mark.parametrize("rate", [0.0, 1e-14])
def test_it_fires_at_the_twentieth_step(steps: int, expected: set[str], rate: float) -> None:
    def run() -> None:
        model = Net()
        train(model, torch.optim.AdamW(model.parameters(), lr=rate), steps)

    found = watched(run)
    assert set(found) == expected
    if expected:
        assert found["GK403"].first_step == 19


def test_one_parameter_that_moves_is_enough_for_silence() -> None:
    def run() -> None:
        model = Net()
        groups = [
            {"params": [*model.stem.parameters(), *model.body.parameters()]},
            {"params": model.head.parameters(), "lr": 1e-3},
        ]
        train(model, torch.optim.SGD(groups, lr=0.0), 30)

    assert not watched(run)


def test_a_change_between_the_samples_is_seen_before_the_report() -> None:
    class Single(torch.optim.Optimizer):
        """Moves one number of a large matrix that is not among the samples."""

        def __init__(self, parameters: Any) -> None:
            super().__init__(parameters, {"lr": 0.1})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            self.param_groups[0]["params"][0].view(-1)[1] += 1.0

    def run() -> None:
        torch.manual_seed(0)
        model = nn.Linear(100, 100, bias=False)
        optimizer = Single(model.parameters())
        for _ in range(30):
            optimizer.zero_grad()
            model(torch.randn(2, 100)).pow(2).sum().backward()
            optimizer.step()

    assert not watched(run)


def test_gradients_of_zero_are_silent() -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(30):
            optimizer.zero_grad()
            (model(torch.randn(2, 4)) * 0.0).sum().backward()
            optimizer.step()

    assert not watched(run)


def test_gradients_that_are_not_finite_are_silent_here() -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for _ in range(30):
            optimizer.zero_grad()
            (model(torch.randn(2, 4)) * float("inf")).sum().backward()
            optimizer.step()

    assert "GK403" not in watched(run)


def test_half_precision_and_sparse_gradients_are_measured() -> None:
    def run() -> None:
        torch.manual_seed(0)
        table = nn.Embedding(10, 4, sparse=True).to(torch.bfloat16)
        optimizer = torch.optim.SGD(table.parameters(), lr=0.0)
        for _ in range(25):
            optimizer.zero_grad()
            table(torch.randint(10, (6,))).float().pow(2).sum().backward()
            optimizer.step()

    assert set(watched(run)) == {"GK403"}

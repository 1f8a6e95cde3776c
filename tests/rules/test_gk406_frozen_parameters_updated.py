"""GK406: what moves frozen parameters, and what leaves them alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gradkit.findings import Severity
from gradkit.records import FrozenUpdate
from gradkit.rules.gk406_frozen_parameters_updated import FrozenParametersUpdated
from tests.rules.membership import STEPPED, Net, parameters, watched


def test_every_cause_is_counted() -> None:
    record = FrozenUpdate(
        optimizer="SGD",
        step=7,
        zero=parameters("a.weight"),
        stale=parameters("b.weight", "b.bias"),
        declared=parameters("c.weight"),
        step_line=STEPPED,
    )
    (finding,) = FrozenParametersUpdated().check([record])
    assert (finding.severity, finding.location) == (Severity.ERROR, STEPPED)
    assert finding.parameters == ("a.weight", "b.weight", "b.bias", "c.weight")
    assert "moved 4 frozen parameter(s)" in finding.message
    assert not list(FrozenParametersUpdated().check([FrozenUpdate(optimizer="SGD", step=1)]))


def train(optimizer_class: Any, steps: int = 16, frozen_from: int = 6, to_none: bool = False, **options: Any) -> None:
    model = Net()
    optimizer = optimizer_class(model.parameters(), lr=0.01, **options)
    for step in range(steps):
        if step == frozen_from:
            model.stem.requires_grad_(False)
        optimizer.zero_grad(set_to_none=to_none)
        model(torch.randn(8, 4)).pow(2).mean().backward()
        optimizer.step()


MOVERS: list[tuple[Any, dict[str, Any]]] = [
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.SGD, {"weight_decay": 0.1}),
    (torch.optim.Adam, {}),
    (torch.optim.AdamW, {}),
    (torch.optim.AdamW, {"fused": True}),
    (torch.optim.RMSprop, {"momentum": 0.5}),
]


@pytest.mark.parametrize(("kind", "options"), MOVERS, ids=str)
def test_gradients_of_zero_are_moved_by_momentum_or_weight_decay(kind: Any, options: dict[str, Any]) -> None:
    found = watched(lambda: train(kind, **options))
    assert set(found) == {"GK406"}
    assert found["GK406"].parameters == ("stem.weight", "stem.bias")
    assert not watched(lambda: train(kind, to_none=True, frozen_from=6, **options))


def test_plain_descent_on_zero_moves_nothing() -> None:
    assert not watched(lambda: train(torch.optim.SGD))


@pytest.mark.parametrize("frozen_from", range(1, 12))
def test_it_is_found_soon_wherever_the_freezing_comes(frozen_from: int) -> None:
    assert set(watched(lambda: train(torch.optim.AdamW, steps=24, frozen_from=frozen_from))) == {"GK406"}


def test_a_gradient_left_over_from_before_the_freezing_is_found_at_its_second_use() -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        model(torch.randn(8, 4)).pow(2).mean().backward()
        model.stem.requires_grad_(False)
        for _ in range(3):
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.grad = None
            model(torch.randn(8, 4)).pow(2).mean().backward()
            optimizer.step()

    found = watched(run)
    assert set(found) == {"GK406"}
    assert (found["GK406"].first_step, found["GK406"].evidence["stale_gradient"]) == (1, 2)


def test_declared_parameters_may_not_be_moved_at_all() -> None:
    found = watched(lambda: train(torch.optim.SGD, frozen_from=99), frozen=("stem.*",))
    assert set(found) == {"GK406"}
    assert (found["GK406"].first_step, found["GK406"].evidence["declared"]) == (0, 2)
    assert not watched(lambda: train(torch.optim.SGD, frozen_from=99), frozen=("nothing.*",))
    assert not watched(lambda: train(torch.optim.SGD, frozen_from=0, to_none=True), frozen=("stem.*",))


def test_averages_and_hand_written_gradients_are_silent() -> None:
    def run() -> None:
        model = Net().requires_grad_(False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(24):
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()

    assert not watched(run)

"""GK405: every scheduler of torch, both wrong orders, and the orders that only look wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as schedules

import gradkit
from gradkit.errors import HygieneError
from gradkit.findings import Severity
from gradkit.records import ScheduleStep
from gradkit.rules.gk405_scheduler_before_optimizer import SchedulerBeforeOptimizer
from tests.rules.membership import MADE, STEPPED, Net, watched

pytestmark = pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")

KINDS: dict[str, Any] = {
    "exponential": lambda optimizer: schedules.ExponentialLR(optimizer, 0.9),
    "sequential": lambda optimizer: schedules.SequentialLR(
        optimizer, [schedules.LinearLR(optimizer, 0.1, 1.0, 2), schedules.ExponentialLR(optimizer, 0.9)], [2]
    ),
    "chained": lambda optimizer: schedules.ChainedScheduler(
        [schedules.LinearLR(optimizer, 0.1, 1.0, 2), schedules.ExponentialLR(optimizer, 0.9)], optimizer
    ),
    "restarts": lambda optimizer: schedules.CosineAnnealingWarmRestarts(optimizer, 5),
    "one cycle": lambda optimizer: schedules.OneCycleLR(optimizer, 0.1, total_steps=30),
    "user's": lambda optimizer: schedules.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
}


def setting(kind: Any, rate: float = 0.1) -> tuple[Net, torch.optim.Optimizer, Any]:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    return model, optimizer, kind(optimizer)


def backward(model: Net, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(3, 4)).sum().backward()


def between(kind: Any) -> None:
    model, optimizer, schedule = setting(kind)
    for _ in range(3):
        backward(model, optimizer)
        schedule.step()
        optimizer.step()


def at_the_start_of_each_round(kind: Any, rounds: int = 3) -> None:
    model, optimizer, schedule = setting(kind)
    for _ in range(rounds):
        schedule.step()
        for _ in range(2):
            backward(model, optimizer)
            optimizer.step()


def in_order(kind: Any) -> None:
    model, optimizer, schedule = setting(kind)
    for _ in range(3):
        backward(model, optimizer)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_both_wrong_orders_are_found_and_the_right_one_is_silent(kind: Any) -> None:
    assert watched(lambda: between(kind))["GK405"].evidence["order"] == "between"
    assert watched(lambda: at_the_start_of_each_round(kind))["GK405"].evidence["order"] == "loop"
    assert not watched(lambda: in_order(kind))


def test_the_line_is_that_of_the_scheduler_and_the_rates_are_named() -> None:
    found = watched(lambda: between(KINDS["exponential"]))["GK405"]
    assert found.location is not None
    assert found.location.function == "between"
    assert (found.evidence["skipped_rate"], found.evidence["first_rate_used"]) == (0.1, pytest.approx(0.09))


def test_a_loop_is_proven_at_its_second_round() -> None:
    assert not watched(lambda: at_the_start_of_each_round(KINDS["exponential"], rounds=1))
    assert set(watched(lambda: at_the_start_of_each_round(KINDS["exponential"], rounds=2))) == {"GK405"}


def test_the_first_round_left_out_is_silent() -> None:
    def run() -> None:
        model, optimizer, schedule = setting(KINDS["exponential"])
        for index in range(4):
            if index:
                backward(model, optimizer)
                optimizer.step()
            schedule.step()

    assert not watched(run)


@pytest.mark.parametrize("epochs", [1, 3])
def test_winding_a_schedule_forward_is_silent(epochs: int) -> None:
    def run() -> None:
        model, optimizer, schedule = setting(KINDS["exponential"])
        for _ in range(epochs):
            schedule.step()
        for _ in range(3):
            backward(model, optimizer)
            optimizer.step()
            schedule.step()

    assert not watched(run)


def test_a_warmup_that_leaves_out_its_zero_is_silent() -> None:
    assert not watched(lambda: between(lambda optimizer: schedules.LambdaLR(optimizer, lambda step: step / 10)))


def test_a_plateau_may_be_told_a_value_before_training() -> None:
    def run() -> None:
        model, optimizer, schedule = setting(schedules.ReduceLROnPlateau)
        for _ in range(3):
            schedule.step(1.0)
            backward(model, optimizer)
            optimizer.step()

    assert not watched(run)


def test_an_optimizer_that_had_stepped_before_gradkit_watched_is_silent() -> None:
    model, optimizer, schedule = setting(KINDS["exponential"])
    backward(model, optimizer)
    optimizer.step()

    def run() -> None:
        for _ in range(3):
            backward(model, optimizer)
            schedule.step()
            optimizer.step()

    assert not watched(run)


def test_schedulers_are_unwrapped_at_the_end() -> None:
    before = {name: getattr(schedules, name).__dict__["step"] for name in ("LRScheduler", "SequentialLR")}
    watched(lambda: between(KINDS["sequential"]))
    assert {name: getattr(schedules, name).__dict__["step"] for name in before} == before


def test_the_finding_is_a_warning_at_the_schedulers_line() -> None:
    record = ScheduleStep(
        scheduler="StepLR", optimizer="SGD", skipped=0.1, used=0.01, order="between", line=MADE, step_line=STEPPED
    )
    (finding,) = SchedulerBeforeOptimizer().check([record])
    assert (finding.severity, finding.location) == (Severity.WARNING, MADE)
    assert "rate 0.1; the first one used was 0.01" in finding.message


def test_halting_reaches_the_line_of_the_scheduler_and_leaves_nothing_behind() -> None:
    model, optimizer, schedule = setting(KINDS["exponential"])
    with pytest.raises(HygieneError, match="GK405"), gradkit.watch(report="never", halt_on="GK405") as monitor:
        for _ in range(3):
            schedule.step()
            backward(model, optimizer)
            optimizer.step()
    assert monitor.attached == ()
    assert not watched(lambda: in_order(KINDS["exponential"]))

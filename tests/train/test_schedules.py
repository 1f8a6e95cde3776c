"""Learning rates step by step against their formulas, across a resume, and under a scaler that skips a step."""

import io
import math
import warnings

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from gradkit.errors import ConfigError
from gradkit.train.loop.schedules import Schedule, build_schedule
from gradkit.train.schema.optimizers import (
    CosineSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    ScheduleConfig,
    StepSchedule,
    WarmupSchedule,
)

ALL = [
    ScheduleConfig(),
    StepSchedule(every_epochs=2, gamma=0.5),
    CosineSchedule(final_factor=0.1),
    WarmupSchedule(steps=7),
    OneCycleSchedule(),
    PlateauSchedule(patience=0, factor=0.1),
]


def make(config: ScheduleConfig, *, lr: float = 0.4, total: int | None = 20) -> tuple[torch.optim.Optimizer, Schedule]:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return optimizer, build_schedule(config, optimizer, total_steps=total, steps_per_epoch=5)


def rates(optimizer: torch.optim.Optimizer, schedule: Schedule, steps: int, *, start: int = 0) -> list[float]:
    """The learning rate of each step; an epoch has 5 steps and its evaluation never improves."""
    seen = []
    for step in range(start, start + steps):
        seen.append(schedule.learning_rate)
        assert optimizer.param_groups[0]["lr"] == seen[-1]
        optimizer.step()
        schedule.after_step()
        if step % 5 == 4:
            schedule.after_epoch()
            schedule.after_evaluation(1.0)
    return seen


def test_constant_stays() -> None:
    assert rates(*make(ScheduleConfig(name="constant")), 12) == [0.4] * 12


def test_step_drops_every_so_many_epochs() -> None:
    seen = rates(*make(StepSchedule(every_epochs=2, gamma=0.5)), 22)
    assert seen == [0.4] * 10 + [0.2] * 10 + [0.1] * 2


def test_cosine_is_half_a_cosine_and_stays_down_afterwards() -> None:
    seen = rates(*make(CosineSchedule(final_factor=0.1)), 30)
    for step, rate in enumerate(seen):
        turn = math.pi * min(step, 20) / 20
        assert rate == pytest.approx(0.04 + 0.36 * (1 + math.cos(turn)) / 2, rel=1e-12)
    assert seen[0] == 0.4
    assert seen[20:] == pytest.approx([0.04] * 10)


def test_warmup_rises_linearly_from_zero() -> None:
    seen = rates(*make(WarmupSchedule(steps=4), total=None), 8)
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4])


def test_one_cycle_is_torchs_with_the_learning_rate_as_its_maximum() -> None:
    reference = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
    scheduler = lr_scheduler.OneCycleLR(reference, max_lr=0.4, total_steps=20, pct_start=0.25, cycle_momentum=False)
    expected = []
    for _ in range(20):
        expected.append(reference.param_groups[0]["lr"])
        reference.step()
        if len(expected) < 20:
            scheduler.step()
    optimizer, schedule = make(OneCycleSchedule(warmup_fraction=0.25))
    seen = rates(optimizer, schedule, 20)
    assert seen == expected
    assert max(seen) == 0.4
    assert optimizer.param_groups[0]["momentum"] == 0.9
    schedule.after_step()  # steps beyond the plan, as after a resume with a later limit, do not raise
    assert schedule.learning_rate == seen[-1]


@pytest.mark.parametrize("total", [2, 3, 4, 5])
@pytest.mark.parametrize("fraction", [0.01, 0.25, 1 / 3, 0.5, 0.99])
def test_one_cycle_takes_short_runs_where_torch_divides_by_zero(total: int, fraction: float) -> None:
    seen = rates(*make(OneCycleSchedule(warmup_fraction=fraction), total=total), total)
    assert all(0 < rate <= 0.4 * (1 + 1e-12) for rate in seen)
    with pytest.raises(ConfigError, match="at least 2"):
        make(OneCycleSchedule(), total=1)


def test_plateau_waits_for_its_patience() -> None:
    _, schedule = make(PlateauSchedule(patience=1, factor=0.1), total=None)
    seen = []
    for loss in (1.0, 0.9, 0.95, 0.95, 0.2, 0.3, math.nan):
        schedule.after_evaluation(loss)
        seen.append(schedule.learning_rate)
    assert seen == pytest.approx([0.4, 0.4, 0.4, 0.04, 0.04, 0.04, 0.004])


@pytest.mark.parametrize("config", ALL, ids=lambda config: type(config).__name__)
def test_a_resumed_schedule_goes_on_bit_for_bit(config: ScheduleConfig) -> None:
    config.name = "constant" if type(config) is ScheduleConfig else config.name
    straight = rates(*make(config), 20)
    optimizer, schedule = make(config)
    first = rates(optimizer, schedule, 12)
    stored = io.BytesIO()
    torch.save({"schedule": schedule.state_dict(), "optimizer": optimizer.state_dict()}, stored)
    stored.seek(0)
    state = torch.load(stored, weights_only=True)
    again, resumed = make(config)
    again.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["schedule"])
    assert first + rates(again, resumed, 8, start=12) == straight


@pytest.mark.parametrize("config", [CosineSchedule(), OneCycleSchedule()], ids=["cosine", "one_cycle"])
def test_a_run_ended_by_the_clock_is_refused_where_its_length_is_needed(config: ScheduleConfig) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.max_steps"):
        make(config, total=None)


def test_an_unknown_schedule_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'cosine'"):
        make(ScheduleConfig(name="cosin"))


def test_a_first_step_that_the_scaler_skipped_warns_of_nothing() -> None:
    _, schedule = make(CosineSchedule())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.after_step()
    assert schedule.learning_rate < 0.4

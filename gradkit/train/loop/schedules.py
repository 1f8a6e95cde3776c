"""Learning-rate schedules on torch's own schedulers, told about steps, epochs and evaluations by the loop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import lr_scheduler

from gradkit.errors import ConfigError, did_you_mean
from gradkit.train.schema import GROUPS
from gradkit.train.schema.optimizers import (
    CosineSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    ScheduleConfig,
    StepSchedule,
    WarmupSchedule,
)


class Schedule:
    """A learning rate over time; this class keeps it constant.

    Args:
        optimizer: torch's optimizer, not a wrapper of it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def after_step(self) -> None:
        """Called after every optimizer step."""

    def after_epoch(self) -> None:
        """Called after every epoch."""

    def after_evaluation(self, validation_loss: float) -> None:
        """Called after every evaluation on the validation split."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values that `load_state_dict` takes; the learning rate itself is the optimizer's."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; the optimizer's state has to be loaded as well, before or after."""


class _Scheduled(Schedule):
    """A schedule that a scheduler of torch carries out."""

    def __init__(self, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
        super().__init__(optimizer)
        self._scheduler = scheduler

    def _advance(self) -> None:
        with warnings.catch_warnings():
            # torch warns when the gradient scaler skipped the very first step: then nothing had been stepped yet.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
            self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        state = self._scheduler.state_dict()
        return {name: state[name] for name in self._saved if name in state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        # The settings are the configuration's; only where it stands is restored.
        self._scheduler.load_state_dict({**self._scheduler.state_dict(), **state})

    _saved: tuple[str, ...] = ("last_epoch", "_step_count", "_last_lr")


class PerStep(_Scheduled):
    """Moves after every optimizer step, until the run's last where there is one.

    Args:
        optimizer: torch's optimizer.
        scheduler: A scheduler counting optimizer steps.
        total_steps: Steps after which it stays; None has no end.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, scheduler: Any, total_steps: int | None = None) -> None:
        super().__init__(optimizer, scheduler)
        self._last = math.inf if total_steps is None else total_steps - 1

    def after_step(self) -> None:
        """See `Schedule`."""
        if self._scheduler.last_epoch < self._last:
            self._advance()


class PerEpoch(_Scheduled):
    """Moves after every epoch."""

    def after_epoch(self) -> None:
        """See `Schedule`."""
        self._advance()


class Plateau(_Scheduled):
    """Moves when evaluations stop improving."""

    _saved = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")

    def after_evaluation(self, validation_loss: float) -> None:
        """See `Schedule`."""
        self._scheduler.step(validation_loss)


def build_schedule(
    config: ScheduleConfig, optimizer: torch.optim.Optimizer, *, total_steps: int | None, steps_per_epoch: int
) -> Schedule:
    """The schedule a configuration names.

    Args:
        config: The `schedule` group.
        optimizer: torch's optimizer, whose learning rate is the schedule's full one.
        total_steps: Optimizer steps of the whole run; None when only the clock ends it.
        steps_per_epoch: Optimizer steps in an epoch.

    Raises:
        ConfigError: The schedule is unknown, or needs to know how long the run is.
    """
    if isinstance(config, StepSchedule):
        return PerEpoch(optimizer, lr_scheduler.StepLR(optimizer, step_size=config.every_epochs, gamma=config.gamma))
    if isinstance(config, CosineSchedule):
        total, left = _known(config, total_steps, steps_per_epoch), config.final_factor
        return PerStep(optimizer, lr_scheduler.LambdaLR(optimizer, _cosine(total, left)))
    if isinstance(config, WarmupSchedule):
        steps = config.steps
        return PerStep(optimizer, lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / steps)))
    if isinstance(config, OneCycleSchedule):
        total = _known(config, total_steps, steps_per_epoch)
        return PerStep(optimizer, _one_cycle(config, optimizer, total), total)
    if isinstance(config, PlateauSchedule):
        plateau = lr_scheduler.ReduceLROnPlateau(optimizer, factor=config.factor, patience=config.patience)
        return Plateau(optimizer, plateau)
    if config.name == "constant":
        return Schedule(optimizer)
    name = str(config.name)
    raise ConfigError(f"schedule={name!r} is unknown.{did_you_mean(name, GROUPS['schedule'])}")


def _known(config: ScheduleConfig, total_steps: int | None, steps_per_epoch: int) -> int:
    if total_steps is None:
        raise ConfigError(
            f"schedule={config.name} is laid out over all steps of the run, and trainer.max_seconds leaves their number"
            f" open; set trainer.max_steps (an epoch has {steps_per_epoch})."
        )
    return total_steps


def _cosine(total: int, left: float) -> Callable[[int], float]:
    """The factor left + (1 - left) (1 + cos(pi t / T)) / 2, from 1 at step 0 to `left` after the last.

    torch's CosineAnnealingLR follows the same curve by a recursion, which drifts and rises again after T.

    Source: Loshchilov and Hutter, "SGDR", 2017, equation 5, without restarts.
    """
    return lambda step: left + (1 - left) * (1 + math.cos(math.pi * min(step, total) / total)) / 2


def _one_cycle(config: OneCycleSchedule, optimizer: torch.optim.Optimizer, total: int) -> Any:
    """OneCycleLR up to the configured learning rate and down; momentum is left as configured.

    Source: `torch.optim.lr_scheduler.OneCycleLR`, whose defaults give the first learning rate (1/25 of the largest) and
    the last (1/10,000 of the first).
    """
    if total < 2:
        raise ConfigError(f"schedule=one_cycle needs at least 2 optimizer steps; the run has {total}.")
    # The peak is step fraction * total - 1. At exactly 0 torch divides by zero, below it skips the rise.
    fraction = max(config.warmup_fraction, (1 + 1e-9) / total)
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[float(group["lr"]) for group in optimizer.param_groups],
        total_steps=total,
        pct_start=fraction,
        cycle_momentum=False,
    )

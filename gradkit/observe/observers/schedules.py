"""Sees learning-rate schedulers step, to find those that step before their optimizer has used the first rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradkit.observe.books.motion import largest
from gradkit.observe.observer import Observer
from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.source.places import locate
from gradkit.observe.taps.schedulers import SCHEDULERS, is_constructing
from gradkit.observe.tensors.known import Known
from gradkit.records import ScheduleStep

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass(slots=True)
class _Early:
    """A scheduler that stepped before its optimizer had."""

    scheduler: str
    site: Site
    rate: float | None
    backwards: int
    fresh: bool
    """No backward had deposited on the optimizer's parameters."""
    calls: int = 1
    used: float | None = None
    step_site: Site | None = None


class SchedulesObserver(Observer):
    """Writes `ScheduleStep` when it is proven that a scheduler's first value was skipped.

    Proven means: the optimizer's first step consumed gradients that a backward had computed before the scheduler
    stepped; or the scheduler stepped before anything was back-propagated, and stepped again at the same line after the
    optimizer had. A fast-forward to the epoch of a checkpoint, or a first step skipped by a scaler, does neither.
    """

    kinds = (ScheduleStep,)
    hears = SCHEDULERS

    def __init__(self, monitor: Any) -> None:
        super().__init__(monitor)
        self._early: Known[Optimizer, _Early] = Known()

    def start(self) -> None:
        """Sleep: optimizer steps matter only once a scheduler was too early."""
        self.monitor.pause(self)

    def stop(self) -> None:
        """Let go of the schedulers."""
        self._early.clear()

    # --- events -------------------------------------------------------------------------------------------------

    def scheduler_steps(self, scheduler: Any, explicit: bool) -> None:
        """The user, or the constructor, makes a scheduler step."""
        optimizer: Any = getattr(scheduler, "optimizer", None)
        if optimizer is None or explicit or is_constructing(scheduler):
            return
        steps = self.monitor.steps_of(optimizer)
        if steps is not None:
            self._note(scheduler, optimizer, steps)

    def _note(self, scheduler: Any, optimizer: Optimizer, steps: int) -> None:
        early = self._early.get(optimizer)
        if steps == 0 and not getattr(optimizer, "_opt_called", False):
            if early is not None:
                early.calls += 1
                return
            rate = largest([group.get("lr") for group in optimizer.param_groups[:1]])
            self._early[optimizer] = _Early(
                type(scheduler).__name__,
                find_site(),
                rate,
                self.monitor.backwards,
                not self.monitor.deposits_of(optimizer),
            )
            self.monitor.resume(self)
        elif early is not None and early.calls == 1 and early.fresh and early.step_site is not None:
            del self._early[optimizer]
            if find_site() == early.site and not self._follows(early):
                self._write(early, optimizer, "loop")

    def before_step(self, optimizer: Optimizer, closure: bool) -> None:
        """The first step of an optimizer whose scheduler was early."""
        early = self._early.get(optimizer)
        if early is None or early.step_site is not None:
            return
        early.used = largest([group.get("lr") for group in optimizer.param_groups[:1]])
        early.step_site = find_site()

    def after_step(self, optimizer: Optimizer) -> None:
        """That step is over, and with it what its closure may have computed."""
        early = self._early.get(optimizer)
        if early is None or early.step_site is None:
            return
        if early.calls == 1 and not early.fresh and self.monitor.backwards == early.backwards:
            del self._early[optimizer]
            self._write(early, optimizer, "between")
        if all(item.step_site is not None for item in self._early.values()):
            self.monitor.pause(self)

    def _follows(self, early: _Early) -> bool:
        """Whether the scheduler's line stands below the optimizer's in one function: the first step was left out."""
        mine, step = early.site, early.step_site
        if step is None or mine.code is None or mine.code is not step.code:
            return False
        here, there = mine.location(), step.location()
        return here is not None and there is not None and here.line > there.line

    def _write(self, early: _Early, optimizer: Optimizer, order: str) -> None:
        if early.rate == 0.0:
            return  # a warmup from 0 that leaves out its first value loses nothing
        self.monitor.put(
            ScheduleStep(
                scheduler=early.scheduler,
                optimizer=self.monitor.label_of(optimizer),
                skipped=early.rate,
                used=early.used,
                order=order,
                line=locate(early.site, self.monitor.models),
                step_line=locate(early.step_site, self.monitor.models),
            )
        )

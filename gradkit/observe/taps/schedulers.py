"""The steps of learning-rate schedulers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.compiler import is_compiling

from gradkit.observe.taps.patches import Point, unseen_by_warnings

# Classes of torch that define a `step` of their own beside the base class's. ReduceLROnPlateau takes a measured value
# and may well be told one before training.
_CLASSES = ("LRScheduler", "SequentialLR", "ChainedScheduler", "CosineAnnealingWarmRestarts")


def watched_step(original: Callable[..., Any], point: Point) -> Callable[..., Any]:
    """A scheduler's `step` that tells the point's listeners of the outermost call."""

    @functools.wraps(original)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_compiling() or not point.listeners:
            return original(self, *args, **kwargs)
        # A composed scheduler steps its parts; only what the user called counts.
        outermost = [listener for listener in point.listeners if listener.enter()]
        try:
            for listener in outermost:
                listener.scheduler_steps(self, bool(args or kwargs))
            return original(self, *args, **kwargs)
        finally:
            for listener in outermost:
                listener.leave()

    return unseen_by_warnings(step)


def _points() -> list[Point]:
    points = []
    for name in _CLASSES:
        owner = getattr(torch.optim.lr_scheduler, name)
        if "step" in owner.__dict__:
            label = f"torch.optim.lr_scheduler.{name}.step"
            points.append(
                Point(label, functools.partial(getattr, torch.optim.lr_scheduler, name), "step", watched_step)
            )
    return points


_POINTS = _points()


def _is_constructing(scheduler: Any) -> bool:
    """Whether this is the step every scheduler makes in its constructor."""
    if hasattr(scheduler, "_is_initial"):
        return bool(scheduler._is_initial)
    return not getattr(scheduler, "_step_count", 1)  # torch before 2.7

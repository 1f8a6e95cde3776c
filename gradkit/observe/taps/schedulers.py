"""The steps of learning-rate schedulers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.compiler import is_compiling

from gradkit.observe.taps.patches import Point, unseen_by_warnings

# Classes of torch that define a `step` of their own beside the base class's. ReduceLROnPlateau takes a measured value
# and may well be told one before training.
_CLASSES = ("LRScheduler", "SequentialLR", "ChainedScheduler", "CosineAnnealingWarmRestarts")

_running = threading.local()
"""Whether the `step` of some scheduler runs in this thread."""


def watched_step(original: Callable[..., Any], point: Point) -> Callable[..., Any]:
    """A scheduler's `step` that tells the point's listeners of the outermost call."""

    @functools.wraps(original)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A composed scheduler steps its parts; only what the user called counts.
        if is_compiling() or not point.listeners or getattr(_running, "step", False):
            return original(self, *args, **kwargs)
        _running.step = True
        try:
            for listener in point.listeners:
                listener.scheduler_steps(self, bool(args or kwargs))
            return original(self, *args, **kwargs)
        finally:
            _running.step = False

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

"""The steps of learning-rate schedulers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

import torch

from gradkit.observe.taps.patches import Patch, telling
from gradkit.observe.taps.signals import tell

# Classes of torch that define a `step` of their own beside the base class's. ReduceLROnPlateau takes a measured value
# and may well be told one before training.
_CLASSES = ("LRScheduler", "SequentialLR", "ChainedScheduler", "CosineAnnealingWarmRestarts")


class _Depth(threading.local):
    """How many steps of schedulers run: a composed one steps its parts, and only what the user called counts."""

    value = 0


_depth = _Depth()


def _steps(listeners: Sequence[Any], scheduler: Any, *args: Any, **kwargs: Any) -> None:
    _depth.value += 1
    if _depth.value == 1:
        tell(listeners, "scheduler_steps", scheduler, bool(args or kwargs))


def _over(*_: Any, **__: Any) -> None:
    _depth.value -= 1


SCHEDULERS = tuple(
    Patch(
        f"torch.optim.lr_scheduler.{name}.step",
        functools.partial(getattr, torch.optim.lr_scheduler, name),
        "step",
        telling(before=_steps, after=_over, failed=_over),
    )
    for name in _CLASSES
    if "step" in vars(getattr(torch.optim.lr_scheduler, name))
)
"""Tell `scheduler_steps(scheduler, explicit)`, explicit when an epoch was given."""


def is_constructing(scheduler: Any) -> bool:
    """Whether this is the step every scheduler makes in its constructor."""
    if hasattr(scheduler, "_is_initial"):
        return bool(scheduler._is_initial)
    return not getattr(scheduler, "_step_count", 1)  # torch before 2.7

"""Places in torch through which a program says that it turns from training to something else, or back.

A program that evaluates changes the mode of a model, disables gradients or starts a data loader. None of that happens
in most training steps, so listening here costs a clean step next to nothing, and what happens between two signals needs
no watching.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from gradkit.observe.taps.containment import contain
from gradkit.observe.taps.patches import Patch, telling
from gradkit.observe.taps.tap import TAP


def tell(listeners: Sequence[Any], event: str, *args: Any) -> None:
    """Tell all listeners of an event, if it happens in the thread that is observed."""
    if not TAP.thread.is_here:
        return  # another thread's evaluation or data says nothing of the training that is observed
    for listener in list(listeners):
        try:
            getattr(listener, event)(*args)
        except BaseException as error:
            contain(error, event, listener.monitor)


def _mode(listeners: Sequence[Any], module: Any, mode: bool = True) -> None:
    # Children come through here as well: a listener hears of each module whose flag changes.
    if module.__dict__.get("training", mode) is not mode:
        tell(listeners, "mode_changed", module, mode)


def _disabled(listeners: Sequence[Any], context: Any) -> None:
    tell(listeners, "gradients_disabled")


def _started(listeners: Sequence[Any], loader: Any) -> None:
    tell(listeners, "loader_started", loader)


def _ended(listeners: Sequence[Any], error: BaseException, iterator: Any) -> None:
    if isinstance(error, StopIteration):
        tell(listeners, "pass_ended", iterator)


def _changed(listeners: Sequence[Any], result: Any, subject: Any, *args: Any, **kwargs: Any) -> None:
    tell(listeners, "phase_changed", subject)


def _compiles(listeners: Sequence[Any], *args: Any, **kwargs: Any) -> None:
    for listener in list(listeners):
        listener.compiling_begins()


COMPILING = (
    Patch("torch.compile", lambda: torch, "compile", telling(before=_compiles)),
    Patch("torch.export.export", lambda: importlib.import_module("torch.export"), "export", telling(before=_compiles)),
)
"""Tell `compiling_begins()`; listened to only while something is attached that must not be compiled in."""
MODE = Patch("torch.nn.Module.train", lambda: torch.nn.Module, "train", telling(before=_mode))
"""Tells `mode_changed(module, mode)` before a module's training flag changes."""
NO_GRAD = Patch("torch.no_grad.__enter__", lambda: torch.no_grad, "__enter__", telling(before=_disabled))
INFERENCE = Patch(
    "torch.inference_mode.__enter__", lambda: torch.inference_mode, "__enter__", telling(before=_disabled)
)
"""Both tell `gradients_disabled()`."""
LOADER = Patch("torch.utils.data.DataLoader.__iter__", lambda: DataLoader, "__iter__", telling(before=_started))
"""Tells `loader_started(loader)`."""
EXHAUSTED = Patch(
    "torch.utils.data.dataloader._BaseDataLoaderIter.__next__",
    lambda: _BaseDataLoaderIter,
    "__next__",
    telling(failed=_ended),
)
"""Tells `pass_ended(iterator)` when an iterator of a data loader has no more batches."""

TO_EVALUATION = (MODE, NO_GRAD, INFERENCE, LOADER)
"""What a program does when it turns from training to evaluation, or back."""
FROZEN = Patch("torch.nn.Module.requires_grad_", lambda: torch.nn.Module, "requires_grad_", telling(after=_changed))
GROUPED = Patch(
    "torch.optim.Optimizer.add_param_group", lambda: torch.optim.Optimizer, "add_param_group", telling(after=_changed)
)
TO_ANOTHER_PHASE = (FROZEN, GROUPED)
"""Both tell `phase_changed(subject)` after a module or an optimizer was changed."""

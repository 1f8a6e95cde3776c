"""Places in torch through which a program says that it turns from training to something else, or back.

A program that evaluates changes the mode of a model, disables gradients or starts a data loader. None of that happens
in most training steps, so listening here costs a clean step next to nothing, and what happens between two signals needs
no watching.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch.compiler import is_compiling
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from gradkit.observe.taps.patches import Point
from gradkit.observe.taps.tap import TAP


def _tell(point: Point, event: str, *args: Any) -> None:
    if not TAP.thread.is_here:
        return  # another thread's evaluation or data says nothing of the training that is observed
    for listener in list(point.listeners):
        try:
            getattr(listener, event)(*args)
        except Exception as error:  # our own bug must not stop training; it becomes GK900
            listener.monitor.contain(event, error)


def _watched_train(original: Callable[..., Any], point: Point) -> Callable[..., Any]:
    @functools.wraps(original)
    def train(self: Any, mode: bool = True) -> Any:
        # Children come through here as well: a listener hears of each module whose flag changes.
        if not is_compiling() and self.__dict__.get("training", mode) is not mode:
            _tell(point, "mode_changed", self, mode)
        return original(self, mode)

    return train


def _watched_enter(original: Callable[..., Any], point: Point) -> Callable[..., Any]:
    @functools.wraps(original)
    def __enter__(self: Any) -> Any:
        if not is_compiling():
            _tell(point, "gradients_disabled")
        return original(self)

    return __enter__


def _watched_iter(original: Callable[..., Any], point: Point) -> Callable[..., Any]:
    @functools.wraps(original)
    def __iter__(self: Any) -> Any:
        if not is_compiling():
            _tell(point, "loader_started", self)
        return original(self)

    return __iter__


def _watched_compile(original: Callable[..., Any], point: Point) -> Callable[..., Any]:
    @functools.wraps(original)
    def compile(*args: Any, **kwargs: Any) -> Any:
        if not is_compiling():
            for listener in list(point.listeners):
                listener.compiling_begins()
        return original(*args, **kwargs)

    return compile


def _watched_next(original: Callable[..., Any], point: Point) -> Callable[..., Any]:
    @functools.wraps(original)
    def __next__(self: Any) -> Any:
        try:
            return original(self)
        except StopIteration:
            if not is_compiling():
                _tell(point, "pass_ended", self)
            raise

    return __next__


def _compiling(module: str, name: str) -> Point:
    return Point(f"{module}.{name}", lambda: importlib.import_module(module), name, _watched_compile)


COMPILING = (_compiling("torch", "compile"), _compiling("torch.export", "export"))
"""Tell `compiling_begins()`; listened to only while something is attached that must not be compiled in."""
MODE = Point("torch.nn.Module.train", lambda: torch.nn.Module, "train", _watched_train)
"""Tells `mode_changed(module, mode)` before a module's training flag changes."""
NO_GRAD = Point("torch.no_grad.__enter__", lambda: torch.no_grad, "__enter__", _watched_enter)
INFERENCE = Point("torch.inference_mode.__enter__", lambda: torch.inference_mode, "__enter__", _watched_enter)
"""Both tell `gradients_disabled()`."""
LOADER = Point("torch.utils.data.DataLoader.__iter__", lambda: DataLoader, "__iter__", _watched_iter)
"""Tells `loader_started(loader)`."""
EXHAUSTED = Point(
    "torch.utils.data.dataloader._BaseDataLoaderIter.__next__", lambda: _BaseDataLoaderIter, "__next__", _watched_next
)
"""Tells `pass_ended(iterator)` when an iterator of a data loader has no more batches."""

TO_EVALUATION = (MODE, NO_GRAD, INFERENCE, LOADER)
"""What a program does when it turns from training to evaluation, or back."""

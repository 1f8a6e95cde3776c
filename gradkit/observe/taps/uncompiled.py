"""Keeps the observer's own code out of `torch.compile`."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import torch

from gradkit.observe.tensors.known import KnownSet


def never_compile() -> None:
    """Mark all code of the observer so that Dynamo neither compiles nor recompiles it.

    `torch.compiler.disable` would import `torch._dynamo` (2 s). The marks are those it sets itself, in C. Traced calls
    return at once through `is_compiling`, which adds no graph break.
    """
    skip = _skipper()
    if skip is None:
        return
    for name, module in list(sys.modules.items()):
        if name.startswith(
            ("gradkit.observe", "gradkit.engine", "gradkit.rules", "gradkit.records", "gradkit.findings")
        ):
            for code in _codes(module):  # again at every start: `torch._dynamo.reset()` may forget it
                skip(code)


def _skipper() -> Callable[[types.CodeType], None] | None:
    frames = torch._C._dynamo.eval_frame
    if hasattr(frames, "set_code_exec_strategy"):
        strategy = frames._FrameExecStrategy(frames._FrameAction.SKIP, frames._FrameAction.DEFAULT)
        return lambda code: frames.set_code_exec_strategy(code, strategy)
    return getattr(frames, "skip_code", None)  # torch before 2.6


@functools.cache
def _codes(module: types.ModuleType) -> tuple[types.CodeType, ...]:
    found: list[types.CodeType] = []
    pending: list[Any] = list(vars(module).values())
    seen: KnownSet[Any] = KnownSet()
    while pending:
        item = pending.pop()
        if item in seen:
            continue
        seen.add(item)
        if isinstance(item, types.CodeType):
            found.append(item)
            pending.extend(item.co_consts)
        elif getattr(item, "__module__", None) == module.__name__ or isinstance(
            item, (property, staticmethod, classmethod)
        ):
            if isinstance(item, property):
                pending.extend([item.fget, item.fset])
            elif isinstance(item, type):
                pending.extend(vars(item).values())
            with contextlib.suppress(AttributeError):
                pending.append(item.__code__)
            pending.append(getattr(item, "__func__", None))
    return tuple(found)


def compiled_code_exists() -> bool:
    """Whether `torch.compile` was used: a mode or a global hook would be compiled in, or force a recompilation."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    if frames is None:
        return False
    # `torch._dynamo.disable`, which torch's own optimizers use, is listed there too, without a backend.
    return any(callable(backend) for backend in getattr(frames, "cached_backends", {0: print}).values())

"""What stands around all that gradkit runs inside somebody's program: its mistakes stay in, the program stays out.

A mistake of gradkit's own becomes a GK900 finding. Whatever else is raised while gradkit looks passes through untouched
and what was being looked at is forgotten: what the user asked to be stopped by, an interrupt, and what came from
outside, as a signal handler, another thread or a debugger raises it. Gradkit only stood where those struck.

And gradkit steps aside: no mode, autocast or profiler of the program acts on what it computes, or shows it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar, overload

import torch
from torch.compiler import is_compiling
from torch.utils._python_dispatch import _disable_current_modes

from gradkit.errors import HygieneError
from gradkit.interruptions import comes_from_outside

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)


class Told(Protocol):
    """Who is told of mistakes."""

    def contain(self, where: str, error: Exception) -> None:
        """Say that a mistake was made, and forget."""

    def forget(self) -> None:
        """Forget what is going on: nothing may follow from it."""


WATCHING: list[Any] = []
"""The runs that are watched in this process, which the tap keeps: all are told of a mistake that is nobody's own."""


def contain(
    error: BaseException, where: str, told: Told | None = None, tell: Callable[[Exception], None] | None = None
) -> None:
    """Keep a mistake of ours from the program; called in an `except` branch, where anything else is raised again.

    Args:
        error: What was caught.
        where: What was being done.
        told: Whom it concerns; all who watch when None.
        tell: What to do with a mistake instead of `told.contain`.
    """
    concerned = WATCHING if told is None else [told]
    if not isinstance(error, Exception) or isinstance(error, HygieneError) or comes_from_outside(error):
        if not isinstance(error, HygieneError):
            for each in list(concerned):
                with contextlib.suppress(Exception):
                    each.forget()
        raise  # the exception that is being handled
    for say in [tell] if tell is not None else [functools.partial(each.contain, where) for each in concerned]:
        try:
            say(error)
        except Exception as second:  # telling of it met a mistake as well
            for each in list(concerned):
                try:
                    each.contain(where, second)
                except Exception:
                    logger.exception("gradkit (%s) made a mistake that could not be told", where)


@overload
def contained(function: Callable[P, None]) -> Callable[P, None]: ...
@overload
def contained(*, default: R) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def contained(function: Callable[..., Any] | None = None, *, default: Any = None) -> Any:
    """Have a function of ours, called by the program, keep its mistakes and step aside.

    Args:
        function: The function.
        default: What it returns when it made a mistake.
    """
    if function is None:
        return functools.partial(contained, default=default)
    inner, where = function, function.__name__

    @functools.wraps(inner)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return default
        try:
            with no_functions() if not (dispatch_modes() or autocast() or profiled()) else _far_aside():
                return inner(*args, **kwargs)
        except BaseException as error:
            contain(error, where)
            return default

    return guarded


class containing:
    """A context in which mistakes of ours stay, for what is done once and not at every step.

    Args:
        told: Who is told.
        where: What is being done.
    """

    def __init__(self, told: Told, where: str) -> None:
        self._told = told
        self._where = where
        self._guard: Any = None

    def __enter__(self) -> None:
        self._guard = aside()
        self._guard.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._guard.__exit__(None, None, None)
        if error is not None:
            contain(error, self._where, self._told)
        return True


# --- stepping aside ---------------------------------------------------------------------------------------------------

no_functions = torch._C.DisableTorchFunction
dispatch_modes = torch._C._len_torch_dispatch_stack
profiled = torch._C._autograd._profiler_enabled
autocast: Callable[[], bool] = getattr(torch._C, "_is_any_autocast_enabled", torch.is_autocast_enabled)


def aside() -> contextlib.AbstractContextManager[Any]:
    """A context in which nothing that the program has switched on acts on torch, and sees nothing of it.

    Function modes (a default device is one) and `__torch_function__` of subclasses; and where they are there, dispatch
    modes, autocast and the ranges of a profiler.
    """
    return _far_aside() if dispatch_modes() or autocast() or profiled() else no_functions()


class _Thread(threading.local):
    """Whether this thread is kept out of a profiler just now."""

    unrecorded = False


_thread = _Thread()


@contextlib.contextmanager
def _far_aside() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(no_functions())
        if dispatch_modes():
            stack.enter_context(_disable_current_modes())
        if autocast() and hasattr(torch._C, "_DisableAutocast"):
            stack.enter_context(torch._C._DisableAutocast())
        if profiled() and not _thread.unrecorded:  # torch does not say whether it records ranges
            _thread.unrecorded = True
            stack.callback(setattr, _thread, "unrecorded", False)
            torch._C._autograd._enable_record_function(False)
            stack.callback(torch._C._autograd._enable_record_function, True)
        yield


def calling(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the program's that gradkit calls on purpose: called as the program would."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        with inside():
            return function(*args)

    return call


def inside() -> contextlib.AbstractContextManager[Any]:
    """A context for the program's own code that gradkit calls on purpose: its function modes act on it."""
    return getattr(torch._C, "_EnableTorchFunction", contextlib.nullcontext)()

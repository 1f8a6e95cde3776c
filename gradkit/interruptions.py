"""Tells what was raised by something that gradkit did not call: a signal handler, another thread, a debugger."""

from __future__ import annotations

import dis
import functools
import itertools
import signal
import sys
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any

_TRACED = frozenset({"call", "line", "return", "exception", "opcode", "c_call", "c_return", "c_exception"})
_WITHOUT_WORDS = (StopIteration, StopAsyncIteration, MemoryError)
"""What Python and C code raise without a message."""
_ROOTS = {"builtins", "gradkit", "torch", "numpy"} | sys.stdlib_module_names


def comes_from_outside(error: Exception) -> bool:
    """Whether gradkit did not call what raised this: it would have been raised without it too, a line earlier or later.

    A signal handler and a trace function are handed the frame they interrupt. An exception that another thread injects
    is raised by no instruction: Python makes it of its class alone, between two of them.
    """
    handlers = set(_handlers())
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers or _interrupts(traceback.tb_frame):
            return True
        last, traceback = traceback, traceback.tb_next
        if traceback is None:
            return _is_injected(error, last)
    return False


def _interrupts(frame: FrameType) -> bool:
    """Whether a frame is that of a signal handler or a trace function, by what it was given."""
    code = frame.f_code
    given: list[Any] = []
    names = frame.f_locals
    for name in code.co_varnames[: code.co_argcount + bool(code.co_flags & _STARRED) + code.co_kwonlyargcount]:
        value = names.get(name)
        given += value if type(value) is tuple else (value,)
    if code.co_flags & _OPTIMIZED and sys.version_info < (3, 13):
        # A snapshot that the frame keeps: with the exception in it the two would hold each other, and a loss's graph.
        names.clear()
    for first, second in itertools.pairwise(given):
        if second is frame.f_back and isinstance(first, int):
            return True
        if first is frame.f_back and type(second) is str and second in _TRACED:
            return True
    return False


_OPTIMIZED, _STARRED = 0x01, 0x04
"""`CO_OPTIMIZED` and `CO_VARARGS` of Python's code objects."""


def _handlers() -> Iterator[CodeType]:
    """The code of the signal handlers of the program, which may have let go of the frame they were given."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if callable(handler) and not hasattr(handler, "__code__"):
            handler = handler.__call__
        handler = getattr(handler, "__func__", handler)
        code = getattr(handler, "__code__", None)
        if isinstance(code, CodeType):
            yield code


def _is_injected(error: Exception, last: TracebackType) -> bool:
    """Whether an exception was raised by no instruction, told by where it was raised and what it says."""
    if dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] in ("RAISE_VARARGS", "RERAISE"):
        return False  # somebody wrote it
    if type(error).__module__.partition(".")[0] not in _ROOTS:
        return True  # nothing that gradkit calls knows the program's own exceptions
    return not error.args and not isinstance(error, _WITHOUT_WORDS)

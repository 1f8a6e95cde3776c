"""Finds what keeps a tensor alive and says it in the user's own words, such as `self.history['loss'][5]`."""

from __future__ import annotations

import gc
import inspect
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gradkit.observe.program.sites import is_user_code
from gradkit.observe.tensors.known import KnownSet

MAX_ELEMENTS = 100_000
"""Values looked at by one search of the frames."""
MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Holder:
    """Where a tensor is kept.

    Attributes:
        path: The expression that reaches it, such as `losses[12]`, or the type of container where no name was found.
        container: The expression of the container, such as `losses`; the variable itself for a plain tensor.
        length: Entries of the container; None for a plain variable.
    """

    path: str
    container: str
    length: int | None


def find_holder(tensor: Tensor, ignore: Sequence[object] = ()) -> Holder | None:
    """The variable of a user frame on the stack through which `tensor` is reached, else what Python says holds it.

    Args:
        tensor: The tensor that is kept.
        ignore: Containers of the search itself, which hold it too.
    """
    budget = [MAX_ELEMENTS]
    for names in _user_namespaces():
        found = _search(names, tensor, budget)
        if found is not None:
            return found
    return _referrer(tensor, ignore)


def _user_namespaces() -> Iterator[Mapping[str, Any]]:
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if is_user_code(frame.f_code.co_filename):
            names = frame.f_locals
            # Up to Python 3.12 this is a snapshot that would keep every local alive: search a copy, clear it.
            if frame.f_code.co_flags & inspect.CO_OPTIMIZED and sys.version_info < (3, 13):
                copy = dict(names)
                names.clear()
                names = copy
            yield names
        frame = frame.f_back


def _search(names: Mapping[str, Any], tensor: Tensor, budget: list[int]) -> Holder | None:
    """Breadth-first through containers and attributes."""
    pending: deque[tuple[Any, str, int, Holder | None]] = deque(
        (value, name, 0, Holder(name, name, None)) for name, value in names.items() if not name.startswith("__")
    )
    seen: KnownSet[Any] = KnownSet()
    while pending and budget[0]:
        budget[0] -= 1
        value, path, depth, holder = pending.popleft()
        if value is tensor:
            return holder
        if depth == MAX_DEPTH or value in seen:
            continue
        seen.add(value)
        for step, inner, length in _entries(value):
            container = path if length is not None else path + step
            pending.append((inner, path + step, depth + 1, Holder(path + step, container, length)))
    return None


_OPAQUE = (Tensor, types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, types.FrameType, str, bytes)


def _entries(value: Any) -> Iterator[tuple[str, Any, int | None]]:
    """The values inside a container or object: how to write the access, the value, the container's length."""
    if isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            try:
                yield f".{name} (closure)", cell.cell_contents, None
            except ValueError:  # a variable that is not bound yet
                continue
        for default in value.__defaults__ or ():
            yield " (default argument)", default, None
        return
    if isinstance(value, _OPAQUE):
        return
    if isinstance(value, (list, tuple, deque)):
        for index, item in enumerate(value):
            yield f"[{index}]", item, len(value)
    elif isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"[{key!r}]" if isinstance(key, (str, int, float, bool)) else "[...]", item, len(value)
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__, None
    else:
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            for name, item in list(attributes.items()):
                yield f".{name}", item, None


def _referrer(tensor: Tensor, ignore: Sequence[object]) -> Holder | None:
    """The container that Python says refers to the tensor, named by the object that holds it where there is one."""
    for container in gc.get_referrers(tensor):
        if isinstance(container, (list, dict, tuple, deque)) and not any(container is item for item in ignore):
            length = len(container)
            kind = type(container).__name__
            for owner in _owners(container):
                name = next((name for name, value in vars(owner).items() if value is container), None)
                if name is not None:
                    path = f"{type(owner).__name__}.{name}"
                    return Holder(path, path, length)
            return Holder(f"a {kind}", f"a {kind}", length)
        if isinstance(container, types.CellType):
            return Holder("a variable of a closure", "a variable of a closure", None)
    return None


def _owners(container: object) -> Iterator[object]:
    """The objects that have the container as an attribute, whether or not their `__dict__` exists as a dictionary."""
    for referrer in gc.get_referrers(container):
        candidates = gc.get_referrers(referrer) if isinstance(referrer, dict) else [referrer]
        for item in candidates:
            if isinstance(getattr(item, "__dict__", None), dict) and not isinstance(item, (types.ModuleType, type)):
                yield item

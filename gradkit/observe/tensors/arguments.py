"""The tensors and names in a call of a torch function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def tensors_in(value: Any, depth: int = 4) -> Iterator[Tensor]:
    """The tensors of an argument or result, through lists, tuples, dictionaries and simple objects."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif depth and isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item, depth - 1)


def name_of(function: Any) -> str:
    """A torch function as its caller wrote it: `detach`, `cross_entropy`, `.data`, `.data =`."""
    name = str(getattr(function, "__name__", type(function).__name__))
    if name in ("__get__", "__set__"):
        attribute = getattr(getattr(function, "__self__", None), "__name__", "attribute")
        return f".{attribute}" + (" =" if name == "__set__" else "")
    return name


def is_in_place(name: str) -> bool:
    """Whether an operation writes to its first argument, by its name."""
    return (name.endswith("_") and not name.endswith("__")) or (name.startswith("__i") and name.endswith("__"))

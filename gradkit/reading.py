"""Files that were written earlier, read back: regular, of limited size and depth, and of the types they should hold."""

from __future__ import annotations

import json
import stat
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST = 64 * 2**20
"""Bytes; what gradkit writes and reads back whole is far below this."""

LONGEST_LINE = 2**20
"""Bytes; an event has a few hundred."""


class UnreadableError(ValueError):
    """A file, or a line of one, that is not what it should be; the message says why and names no file."""


class NoJsonError(UnreadableError):
    """Text that is no JSON, such as a line that a kill cut off."""


def check_regular(path: Path) -> int:
    """The size of a file [byte], once it is known to be a regular one: a pipe would be waited for without end.

    Raises:
        OSError: There is none, or it cannot be looked at.
        UnreadableError: It is a folder, a pipe, a socket or a device.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError("it is no regular file")
    return status.st_size


def read_file(path: Path, limit: int = LARGEST) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: There is none, or it cannot be read.
        UnreadableError: It is no regular file, empty, or larger than `limit` bytes.
    """
    size = check_regular(path)
    if size > limit:
        raise UnreadableError(f"it has {size:,} bytes, and at most {limit:,} are read")
    if size == 0:
        raise UnreadableError("it is empty")
    with path.open("rb") as file:
        return file.read(limit)


def parse(content: bytes) -> Any:
    """JSON data, whatever its depth.

    Raises:
        NoJsonError: It is no JSON in UTF-8.
        UnreadableError: It is nested too deeply to be any of gradkit's.
    """
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise UnreadableError("it is nested too deeply to be one of gradkit's") from None
    except ValueError as error:
        raise NoJsonError(f"it is no JSON: {error}") from None


def read_json(path: Path, shape: Any = Any, limit: int = LARGEST) -> Any:
    """The JSON data in a file, of the given shape.

    Raises:
        OSError: There is none, or it cannot be read.
        UnreadableError: See `read_file`, `parse` and `mismatch`.
    """
    data = parse(read_file(path, limit))
    if wrong := mismatch(data, shape):
        raise UnreadableError(wrong)
    return data


def lines(path: Path, limit: int = LONGEST_LINE) -> Iterator[tuple[int, bytes | None]]:
    """Each line of a file with its number, from 1; None for one that is longer than `limit` bytes.

    Raises:
        OSError: There is no such file, or it cannot be read.
        UnreadableError: It is no regular file.
    """
    check_regular(path)
    number = 0
    with path.open("rb") as file:
        while line := file.readline(limit + 1):
            number += 1
            whole: bytes | None = line
            while len(line) > limit and not line.endswith(b"\n"):
                whole, line = None, file.readline(limit + 1)
            yield number, whole


def mismatch(value: Any, shape: Any, where: str = "") -> str | None:
    """Where data are not of a shape, in words; None where they are.

    A shape is a type as annotations have it: a class, `Any`, a union, a list, a dict, or a `TypedDict`, whose further
    keys may hold anything. Whole numbers count as numbers; true and false count as neither.

    Example:
        >>> mismatch({"a": [1, "x"]}, dict[str, list[int]])
        '`a[1]` is str, expected int'
        >>> mismatch({"a": [1, 2]}, dict[str, list[int]]) is None
        True
    """
    origin, arguments = typing.get_origin(shape), typing.get_args(shape)
    if shape is Any:
        return None
    if origin in (typing.Union, types.UnionType):
        return _wrong(value, shape, where) if all(mismatch(value, each, where) for each in arguments) else None
    if typing.is_typeddict(shape):
        if not isinstance(value, dict):
            return _wrong(value, dict, where)
        if missing := sorted(shape.__required_keys__ - value.keys()):
            return f"it has no `{_inner(where, missing[0])}`"
        known = typing.get_type_hints(shape)
        inner = ((value[name], known[name], _inner(where, name)) for name in known if name in value)
    elif origin is dict and isinstance(value, dict):
        if not all(isinstance(name, arguments[0]) for name in value):
            return f"`{where}` has keys that are not {arguments[0].__name__}"
        inner = ((each, arguments[1], _inner(where, name)) for name, each in value.items())
    elif origin is list and isinstance(value, list):
        inner = ((each, arguments[0], f"{where}[{index}]") for index, each in enumerate(value))
    else:
        return None if _is(value, origin or shape) else _wrong(value, shape, where)
    return next(filter(None, (mismatch(*each) for each in inner)), None)


def _is(value: Any, kind: Any) -> bool:
    if kind in (None, type(None)):
        return value is None
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _inner(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _wrong(value: Any, shape: Any, where: str) -> str:
    subject = f"`{where}`" if where else "it"
    return f"{subject} is {type(value).__name__}, expected {_words(shape)}"


def _words(shape: Any) -> str:
    if typing.get_origin(shape) in (typing.Union, types.UnionType):
        return " or ".join(_words(each) for each in typing.get_args(shape))
    if shape in (None, type(None)):
        return "null"
    return str((typing.get_origin(shape) or shape).__name__)

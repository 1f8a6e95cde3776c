"""The fields of a schema: how one is declared, their types and ranges, both in words; imports no framework."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from functools import cache
from typing import Any

MISSING: Any = "???"
"""A value the user has to give (OmegaConf's own marker)."""


def key(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[str] | None = None,
    path: bool = False,
    resumable: bool = False,
    bookkeeping: bool = False,
) -> Any:
    """A dataclass field that carries its help text and its allowed range.

    Args:
        default: The default; a list or dict is copied for every instance.
        text: What the key means, with its unit.
        low: Smallest allowed number, inclusive.
        high: Largest allowed number, inclusive.
        above: Numbers must be greater than this.
        below: Numbers must be less than this.
        choices: The allowed words.
        path: It names a place on one machine; a relative one is meant from where the run was started.
        resumable: A run may be gone on with under another value: the weights it had are as they would have been.
        bookkeeping: It says what is kept and shown of a run, and has no part in its numbers; resumable too.
    """
    limits = {"low": low, "high": high, "above": above, "below": below, "choices": choices}
    metadata = {"help": text, **{name: value for name, value in limits.items() if value is not None}}
    metadata |= {"path": path, "resumable": resumable or bookkeeping, "bookkeeping": bookkeeping}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@cache
def fields_of(schema: type) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a schema class by name."""
    return {each.name: each for each in dataclasses.fields(schema)}


@cache
def types_of(schema: type) -> dict[str, Any]:
    """The annotations of a schema class, evaluated."""
    return typing.get_type_hints(schema)


def type_in_words(annotation: Any) -> str:
    """What a value of this type looks like.

    Example:
        >>> type_in_words(int | None)
        'a whole number or null'
        >>> type_in_words(list[int])
        'a list of whole numbers'
    """
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        inner = [type_in_words(each) for each in arguments if each is not type(None)]
        return " or ".join([*inner, "null"] if type(None) in arguments else inner)
    if origin is list:
        return f"a list of {words[arguments[0]].removeprefix('a ')}{'' if arguments[0] is str else 's'}"
    if origin is dict:
        return "a mapping such as {width: 64}"
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def fits(value: Any, annotation: Any) -> bool:
    """Whether plain data is of a schema's type, at every depth.

    Example:
        >>> fits([1, 2], list[int]), fits([[1]], list[int]), fits(None, float | None), fits(True, int)
        (True, False, True, False)
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is list:
        return isinstance(value, list) and all(fits(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(each, arguments[1]) for each in value.values())
    return type(value) is annotation


def range_in_words(metadata: typing.Mapping[str, Any]) -> str:
    """The allowed range or words of a field, or an empty string.

    Example:
        >>> range_in_words({"low": 0, "below": 1})
        '>= 0, < 1'
    """
    if choices := metadata.get("choices"):
        return " | ".join(choices)
    signs = {"low": ">=", "above": ">", "high": "<=", "below": "<"}
    return ", ".join(f"{sign} {metadata[limit]}" for limit, sign in signs.items() if limit in metadata)

"""What the schema says about keys: their names, their fields, and a type in words; imports no framework."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from functools import cache
from typing import Any

from gradkit.errors import did_you_mean
from gradkit.train.schema import GROUPS, TrainConfig


@cache
def fields_of(schema: type) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a schema class by name."""
    return {each.name: each for each in dataclasses.fields(schema)}


@cache
def types_of(schema: type) -> dict[str, Any]:
    """The annotations of a schema class, evaluated."""
    return typing.get_type_hints(schema)


def top_keys() -> tuple[str, ...]:
    """The keys of the root that are no group."""
    return tuple(name for name in fields_of(TrainConfig) if name not in GROUPS)


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


def unknown_key(key: str, chosen: dict[str, type]) -> str:
    """One sentence on a key that does not exist, with the nearest one that does.

    Args:
        key: The dotted key.
        chosen: The schema in force for each group.
    """
    head, _, rest = key.partition(".")
    if rest and head in chosen:
        own = [name for name in fields_of(chosen[head]) if name != "name"]
        owners = [choice for choice, schema in GROUPS[head].items() if rest in fields_of(schema)]
        name = fields_of(chosen[head]).get("name")
        label = f"{head}={name.default}" if name is not None and name.default != "???" else f"{head}"
        if owners:
            return f"Unknown key {key!r}: {label} has none of that name, {head}={owners[0]} has."
        near = did_you_mean(key, [f"{head}.{each}" for each in own])
        return f"Unknown key {key!r}.{near} The keys of {label}: {', '.join(own) or 'none'}."
    leaf = key.rpartition(".")[2]
    homes = [f"{group}.{leaf}" for group, schema in chosen.items() if leaf in fields_of(schema) and leaf != "name"]
    if homes:
        return f"Unknown key {key!r}. Did you mean {homes[0]!r}?"
    everything = [*top_keys(), *GROUPS, "preset"]
    near = did_you_mean(head, everything)
    if not near:
        dotted = [f"{group}.{each}" for group, schema in chosen.items() for each in fields_of(schema)]
        close = difflib.get_close_matches(key, dotted, n=1, cutoff=0.7)
        near = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown key {key!r}.{near} The top level has {', '.join(everything)}."

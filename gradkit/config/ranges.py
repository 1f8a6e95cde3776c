"""Refuses values outside the ranges and words that a schema gives its fields; imports no framework."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradkit.config.fields import range_in_words
from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean

LARGEST_INTEGER = 2**63 - 1
"""What a tensor's index can hold."""


def check_ranges(part: Any, prefix: str = "") -> None:
    """Refuse values outside the ranges and words of the schema, at every depth.

    Raises:
        ConfigError: Names the key, the range and the value.
    """
    for field in dataclasses.fields(part):
        value, key = getattr(part, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{key}.")
            continue
        for each in value if isinstance(value, list) else [value]:
            _check_value(key, each, field.metadata)


def _check_value(key: str, value: object, metadata: Mapping[str, Any]) -> None:
    text = f" ({metadata['help']})" if "help" in metadata else ""
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{key}: text may not hold a null character, got {quoted(value)}.")
    if (choices := metadata.get("choices")) and value is not None and value not in choices:
        near = _nearest(str(value), choices)
        raise ConfigError(f"{key}: expected one of {', '.join(choices)}, got {quoted(value)}.{near}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}: expected a finite number{text}, got {value}.")
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ConfigError(
            f"{key}: expected a number that fits 64 bits{text}, got one of {len(hex(value)) - 2} hex digits."
        )
    low, high, above, below = (metadata.get(limit) for limit in ("low", "high", "above", "below"))
    if (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        raise ConfigError(f"{key}: expected a number {range_in_words(metadata)}{text}, got {value}.")


def _nearest(value: str, choices: Sequence[str]) -> str:
    """A sentence naming the choice probably meant, with a leading space, or an empty string.

    Words are compared up to their first hyphen: whole, then by likeness, then by the letters they have in common, so
    that `16` and `fp16` are nearer to `16-mixed` than to `64`.
    """
    heads = {choice: choice.partition("-")[0] for choice in choices}
    same = [choice for choice, head in heads.items() if head == value.partition("-")[0]]
    if len(same) == 1:
        return f" Did you mean {same[0]!r}?"
    if near := did_you_mean(value, choices):
        return near
    inside = [choice for choice, head in heads.items() if len(head) > 1 and _is_within(head, value.partition("-")[0])]
    return f" Did you mean {max(inside, key=lambda choice: len(heads[choice]))!r}?" if inside else ""


def _is_within(short: str, long: str) -> bool:
    """Whether all letters of `short` are in `long`, in the same order."""
    letters = iter(long)
    return all(letter in letters for letter in short)

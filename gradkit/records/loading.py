"""Weights that a program meant to load."""

from __future__ import annotations

from dataclasses import dataclass

from gradkit.records.places import Location
from gradkit.records.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingLoaded(Record):
    """A `load_state_dict(strict=False)` that matched no trainable parameter, and the first step on the model after it.

    Attributes:
        model: Type name of the model.
        parameters: Its trainable parameters, by name.
        given: Tensors in the dictionary.
        key: One key of the dictionary.
        wanted: A key of the model of the same shape.
        extra: What the dictionary's keys begin with and the model's do not; empty when that is not the difference.
        lacking: What the model's keys begin with and the dictionary's do not; empty when that is not the difference.
        optimizer: Label of the optimizer that stepped.
        step: Number of its step.
        location: The user's line that loaded.
        step_line: The user's line that stepped.
    """

    model: str
    parameters: tuple[str, ...]
    given: int
    key: str
    wanted: str
    extra: str = ""
    lacking: str = ""
    optimizer: str = ""
    step: int = 0
    location: Location | None = None
    step_line: Location | None = None

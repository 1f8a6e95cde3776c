"""Places in the user's source and parameters, as records and findings name them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the user's own source."""

    file: str
    line: int
    function: str
    via: str | None = None
    """The framework that made the call when the line is the nearest user code rather than the call itself."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A source statement that matters to a finding: where it stands, its text and why it is named."""

    location: Location
    text: str
    note: str


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """One parameter as a person would name it."""

    name: str
    shape: tuple[int, ...]
    module: str | None = None

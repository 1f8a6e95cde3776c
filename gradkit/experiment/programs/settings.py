"""Settings and run folders of the programs that are no training run: a dataclass each, read from `key=value`."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import gradkit
from gradkit.config.fields import fields_of, fits, range_in_words, type_in_words
from gradkit.config.ranges import check_ranges
from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.runs.claims import claimed
from gradkit.runs.store import RunStore

Settings = TypeVar("Settings")


def read_settings(schema: type[Settings], overrides: Sequence[str], seed: int) -> Settings:
    """An instance of a schema from `key=value` texts; values are JSON numbers, true, false, null, or words.

    Args:
        schema: A dataclass whose fields come from `gradkit.config.fields.key`, one of them `seed`.
        overrides: As written in an experiment.
        seed: Of the run.

    Raises:
        ConfigError: An unknown key, or a value of the wrong type or outside its range.
    """
    fields = fields_of(typing.cast(type, schema))
    types = typing.get_type_hints(schema)
    known = [name for name in fields if name != "seed"]
    values: dict[str, Any] = {"seed": seed}
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise ConfigError(
                f"Unknown setting {quoted(text)}.{did_you_mean(name, known)} There are: {', '.join(known)}."
            )
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        if types[name] is float and type(read) is int:
            read = float(read)
        if not fits(read, types[name]):
            limits = range_in_words(fields[name].metadata)
            kind = type_in_words(types[name]) + (f" ({limits})" if limits else "")
            raise ConfigError(f"{name}: expected {kind}, got {quoted(value)}.")
        values[name] = read
    made = schema(**values)
    check_ranges(made)
    return made


def write_run(
    folder: Path,
    overrides: Sequence[str],
    settings: Any,
    measure: Callable[[RunStore], Mapping[str, float]],
    device: str = "cpu",
) -> None:
    """Run a measurement and write its folder as a training run writes its own.

    Args:
        folder: Empty, exists.
        overrides: As given.
        settings: A dataclass with a `seed`.
        measure: Takes the store for its events and returns the final numbers by dotted name.
        device: Where it runs.
    """
    with claimed(folder):
        _write_run(RunStore(folder), overrides, settings, measure, device)


def _write_run(
    store: RunStore,
    overrides: Sequence[str],
    settings: Any,
    measure: Callable[[RunStore], Mapping[str, float]],
    device: str,
) -> None:
    store.update(
        status="running",
        seed=settings.seed,
        overrides=list(overrides),
        config=dataclasses.asdict(settings),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        versions=versions(),
        environment={"device": device, "platform": platform.platform(), "python": platform.python_version()},
    )
    try:
        values = measure(store)
    except BaseException as error:  # Ctrl-C too: the folder says how the run ended, and the error goes on
        store.update(
            status="interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed", error=repr(error)
        )
        raise
    store.update(status="completed", ended=time.strftime("%Y-%m-%dT%H:%M:%S%z"), metrics=dict(values), findings=[])


def versions() -> dict[str, str]:
    """gradkit, Python and the packages that decide the numbers."""
    found = {"gradkit": gradkit.__version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scipy", "altair", "vl-convert-python"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found

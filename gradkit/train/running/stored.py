"""Going on with, or evaluating, a run that is already on disk: its overrides, and which of them may change."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, RunFolderError
from gradkit.runs.claims import LOCK
from gradkit.runs.store import MANIFEST, read_manifest
from gradkit.store import plain
from gradkit.train.command.validate import below_home, nearest_path
from gradkit.train.schema import TrainConfig, keys_that_are

FOLLOWED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cosine": ("trainer.epochs", "trainer.max_steps"),
        "one_cycle": ("trainer.epochs", "trainer.max_steps"),
        "plateau": ("trainer.evaluate_every",),
    }
)
"""Resumable keys that a schedule is laid out by: another value would bend the learning rate midway."""

EVALUATE_MAY_CHANGE = (
    "mode",
    "run",
    "name",
    "inference.",
    "trainer.accelerator",
    "trainer.progress",
    "trainer.threads",
)
"""Keys, and groups of them that end in a dot, that an evaluation may choose anew."""

OF_THE_CALL = ("trainer.resume", "mode", "run")
"""Keys that said how a stored run was called rather than what it is."""


@dataclass(frozen=True)
class StoredRun:
    """A run on disk.

    Attributes:
        folder: Its folder, absolute.
        key: The configuration key that named it: `trainer.resume` or `run`.
        overrides: The task overrides it was composed from.
        config: Its resolved configuration as it was then, plain data.
        base: Where it was started: what its relative paths are meant from.
    """

    folder: Path
    key: str
    overrides: tuple[str, ...]
    config: Mapping[str, Any]
    base: Path

    @property
    def may_change(self) -> tuple[str, ...]:
        """Keys that the command line may set differently."""
        return keys_that_are("resumable") if self.key == "trainer.resume" else EVALUATE_MAY_CHANGE


def read_stored(given: object, key: str) -> StoredRun:
    """The stored run that `key=given` names.

    Raises:
        ConfigError: The value is no path.
        RunFolderError: No such folder, or its run.json is damaged, of another version, or lacks what is needed.
    """
    if not isinstance(given, str) or not given or "\0" in given:
        raise ConfigError(f"{key}: expected a run folder, got {quoted(given)}.")
    try:
        folder = below_home(given).absolute()
        if not folder.is_dir():
            what = "is a file; give the run folder it lies in" if folder.is_file() else "does not exist"
            raise RunFolderError(f"{key}: {quoted(given)} {what}.{nearest_path(folder) if what[0] == 'd' else ''}")
        manifest = folder / MANIFEST
        if not manifest.is_file():
            inner = sorted(each.parent.name for each in folder.glob(f"*/{MANIFEST}"))
            inside = f" It holds runs in its folders {', '.join(inner[:5])}." if inner else nearest_path(folder)
            if (folder / LOCK).exists() and not inner:
                inside = " The run ended before it had begun to train; start it again by the command that started it."
            raise RunFolderError(f"{key}: {quoted(given)} is no run folder: it has no {MANIFEST}.{inside}")
    except OSError as error:
        raise RunFolderError(f"{key}: cannot read {quoted(given)}: {error.strerror or error}.") from error
    try:
        content = read_manifest(folder)
    except RunFolderError as error:
        raise RunFolderError(f"{key}: {error}") from None
    for name in ("overrides", "config"):
        if content.get(name) is None:
            raise RunFolderError(
                f"{key}: {MANIFEST} of {quoted(given)} holds no `{name}`; it cannot be composed again."
            )
    if content.get("mode") == "evaluate":
        raise RunFolderError(f"{key}: {quoted(given)} is an evaluation; give the folder of the run itself.")
    return StoredRun(folder, key, tuple(content["overrides"]), content["config"], Path(content.get("cwd", "")))


def check_same_run(stored: StoredRun, before: TrainConfig, after: TrainConfig) -> None:
    """Refuse to go on when something that shapes the run would be different.

    Args:
        stored: The run on disk.
        before: Composed now from the stored overrides alone.
        after: Composed from the stored overrides and the new ones.

    Raises:
        ConfigError: A new override changes the run, or the configuration files have changed since.
    """
    was, now, then = dict(_flat(before)), dict(_flat(after)), dict(_flat(stored.config))
    for key, value in now.items():
        if value == was.get(key, value):
            continue
        if stored.key == "trainer.resume" and key in FOLLOWED.get(after.schedule.name, ()):
            raise ConfigError(
                f"{key}: schedule={after.schedule.name} follows it, so going on with a run cannot change it from"
                f" {quoted(was[key])} to {quoted(value)}; start a new run, or leave it out."
            )
        if not _among(key, stored.may_change):
            doing = "going on with" if stored.key == "trainer.resume" else "evaluating"
            raise ConfigError(
                f"{key}: {doing} a run cannot change it from {quoted(was[key])} to {quoted(value)};"
                f" start a new run, or leave it out. May change: {', '.join(_words(stored.may_change))}."
            )
    for key, value in was.items():
        if key in then and value != then[key] and not _among(key, keys_that_are("resumable")):
            raise ConfigError(
                f"{key} was {quoted(then[key])} in {quoted(str(stored.folder))} and the same overrides now give"
                f" {quoted(value)}: a configuration file has changed since. Put the old value back."
            )


def check_same_data(folder: Path, fingerprint: str) -> None:
    """Refuse to go on with, or to evaluate, a run by other data: they would be split anew, test samples among the rest.

    Args:
        folder: Of the run on disk.
        fingerprint: Of the data as they are now; see `Dataset.fingerprint`.

    Raises:
        RunFolderError: The run was trained on other data.
    """
    trained_on = read_manifest(folder).get("data", {}).get("fingerprint")
    if trained_on is not None and trained_on != fingerprint:
        raise RunFolderError(
            f"The data of {folder} have changed: it was trained on {trained_on}, now they are {fingerprint}."
            " Put the old data back, or start a new run."
        )


def _among(key: str, keys: tuple[str, ...]) -> bool:
    """Whether `key` is one of `keys`; one that ends in a dot stands for all below it."""
    return any(key.startswith(each) if each.endswith(".") else key == each for each in keys)


def _words(keys: tuple[str, ...]) -> list[str]:
    return [key.rstrip(".") for key in keys if key not in OF_THE_CALL]


def _flat(part: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and plain values, equal for a configuration and for the JSON it was written to."""
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        part = json.loads(json.dumps(plain(dataclasses.asdict(part))))
    if isinstance(part, dict) and (part or not prefix):
        for key, value in part.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, part

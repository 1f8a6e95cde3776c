"""Finds run folders and reads their manifests; whatever cannot be read is skipped and named, never guessed."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gradkit.config.wording import quoted
from gradkit.errors import RunFolderError, did_you_mean
from gradkit.runs.store import EVENTS, MANIFEST, read_manifest
from gradkit.store import number

COMPLETED = "completed"
RUNNING = "running"


@dataclass(frozen=True)
class Skipped:
    """A folder that was looked at and left out.

    Attributes:
        path: As the user would type it.
        reason: What is wrong, in a few words.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Run:
    """One run folder as its manifest describes it.

    Attributes:
        folder: Where it is.
        label: How tables call it: its path relative to what all compared folders share.
        manifest: `run.json`, as read.
    """

    folder: Path
    label: str
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def status(self) -> str:
        """`completed`, `failed`, `interrupted` or `running`; a killed process leaves `running` behind."""
        return str(self.manifest["status"])

    @property
    def finished(self) -> bool:
        """Whether its metrics are those of a whole run."""
        return self.status == COMPLETED

    @property
    def seed(self) -> Any:
        """The seed of the run; None when the manifest has none."""
        return self.manifest.get("seed")

    @property
    def findings(self) -> Sequence[Mapping[str, Any]]:
        """The findings gradkit left in the manifest."""
        found = self.manifest.get("findings") or []
        return [each for each in found if isinstance(each, dict)]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration with dotted keys; lists stay values."""
        return dict(flattened(self.manifest.get("config") or {}))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every number the run ended with, by dotted name: metrics, differences, timings, peaks and steps."""
        found: dict[str, float] = {}
        for part, prefix in (("metrics", ""), ("differences", ""), ("timings", ""), ("peaks", ""), ("best", "best.")):
            for name, value in flattened(self.manifest.get(part) or {}):
                value = number(value) if isinstance(value, str) else value
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    found[prefix + name] = _as_float(value)
        if (steps := self.manifest.get("steps")) is not None:
            found["steps"] = _as_float(steps)
        return found


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer larger than any float
        return math.inf if value > 0 else -math.inf


def flattened(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings with dotted keys.

    Example:
        >>> dict(flattened({"a": {"b": 1, "c": [2]}, "d": None}))
        {'a.b': 1, 'a.c': [2], 'd': None}
    """
    waiting = [(f"{prefix}{key}", each) for key, each in reversed([*value.items()])]
    while waiting:
        name, item = waiting.pop()
        if isinstance(item, Mapping):
            waiting.extend((f"{name}.{key}", each) for key, each in reversed([*item.items()]))
        else:
            yield name, item


def load_runs(arguments: Sequence[str | Path]) -> tuple[list[Run], list[Skipped]]:
    """The runs named by folders, manifests, globs or folders that hold many, and what was left out.

    Args:
        arguments: Each a run folder, its `run.json`, a glob, or a folder searched to any depth. A run named twice
            counts once.

    Returns:
        The runs in the order given (within a searched folder in natural order, `run-9` before `run-10`), and the
        folders skipped with the reason.

    Raises:
        RunFolderError: An argument names nothing that exists.
    """
    found: dict[Path, None] = {}
    skipped: list[Skipped] = []
    for argument in arguments:
        for folder in _expanded(str(argument)):
            inside = list(_run_folders(folder, skipped))
            if not inside and not any(each.path.startswith(str(folder)) for each in skipped):
                skipped.append(Skipped(str(folder), f"there is no {MANIFEST} in it or below it"))
            found.update(dict.fromkeys(inside))
    manifests: dict[Path, dict[str, Any]] = {}
    resolved: set[Path] = set()
    for folder in found:
        identity = folder.resolve()
        if identity in resolved:
            continue
        resolved.add(identity)
        try:
            manifests[folder] = _checked_manifest(folder)
        except RunFolderError as error:
            skipped.append(
                Skipped(str(folder), str(error).removeprefix(f"{folder / MANIFEST} ").removeprefix(f"{folder} "))
            )
    labels = _labels([*manifests])
    return [Run(folder, labels[folder], manifest) for folder, manifest in manifests.items()], skipped


def _expanded(argument: str) -> list[Path]:
    path = Path(argument)
    try:
        if path.exists():
            return [path.parent if path.name == MANIFEST and path.is_file() else path]
    except (OSError, ValueError) as error:  # a name too long for the file system, or with a null character
        raise RunFolderError(f"{quoted(argument)} names no folder: {error}.") from None
    if glob.has_magic(argument):
        # Path.glob wants a relative pattern and its base apart; a user's glob may be absolute.
        matches = sorted((Path(match) for match in glob.glob(argument, recursive=True)), key=_natural)  # noqa: PTH207
        folders = [match.parent if match.name == MANIFEST else match for match in matches]
        folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
        if folders:
            return folders
        raise RunFolderError(f"No folder matches {quoted(argument)}.")
    try:
        beside = [str(path.parent / each.name) for each in path.parent.iterdir()]
    except OSError:
        beside = []
    raise RunFolderError(f"There is no run folder {quoted(argument)}.{did_you_mean(argument, beside)}")


def _run_folders(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    if not folder.is_dir():
        skipped.append(Skipped(str(folder), "it is a file, not a run folder"))
        return
    if (folder / MANIFEST).is_file():
        yield folder
        return

    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(str(error.filename), f"it cannot be read: {error.strerror}"))

    for place, below, files in os.walk(folder, onerror=unreadable):
        here = Path(place)
        if MANIFEST in files:
            below.clear()
            yield here
            continue
        if here != folder and (EVENTS in files or ".hydra" in below):
            skipped.append(Skipped(place, f"the run ended before it wrote {MANIFEST}"))
        below[:] = sorted((name for name in below if not name.startswith(".")), key=lambda name: _natural(Path(name)))


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sorts names with numbers by the numbers' values."""
    parts: list[tuple[int, int, str]] = []
    text = ""
    for letter in str(path):
        digit = letter.isascii() and letter.isdigit()
        if digit and parts and parts[-1][0] == 0 and not text:
            parts[-1] = (0, parts[-1][1] * 10 + int(letter), "")
        elif digit:
            parts += [(1, 0, text)] * bool(text) + [(0, int(letter), "")]
            text = ""
        else:
            text += letter
    return [*parts, (1, 0, text)]


def _checked_manifest(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    if "status" not in manifest:
        raise RunFolderError(f"{folder / MANIFEST} says no status; it is not the manifest of a run.")
    return manifest


def _labels(folders: Sequence[Path]) -> dict[Path, str]:
    """Paths without what they all share."""
    if not folders:
        return {}
    full = {folder: folder.absolute() for folder in folders}
    shared = Path(os.path.commonpath([each.parent for each in full.values()]))
    return {folder: path.relative_to(shared).as_posix() for folder, path in full.items()}

"""The files of a run: a manifest `run.json` and an append-only `events.jsonl`; imports no torch."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

from gradkit.errors import RunFolderError
from gradkit.reading import LONGEST_LINE, NoJsonError, UnreadableError, lines, mismatch, parse, read_json
from gradkit.store import number, plain, write_atomically

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MANIFEST = "run.json"
EVENTS = "events.jsonl"

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _line(event: Mapping[str, Any]) -> str:
    try:
        return _ENCODER.encode(event)
    except ValueError:  # a number that JSON does not have
        return _ENCODER.encode(plain(event))


class Complaints:
    """Says on standard error, once per subject, that a file could not be written; training goes on."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def say(self, subject: str, error: BaseException) -> None:
        """Warn about `subject` unless that was done before."""
        if subject in self._said:
            return
        self._said[subject] = str(error)
        message = f"gradkit: cannot write {subject}: {error}; the run goes on without it\n"
        try:
            sys.stderr.write(message)
            sys.stderr.flush()
        except (OSError, ValueError):  # standard error itself is closed: nobody is left to tell
            return

    @property
    def subjects(self) -> list[str]:
        """What could not be written so far, sorted."""
        return sorted(self._said)

    def in_words(self) -> str:
        """What could not be written, and why."""
        reasons = "; ".join(dict.fromkeys(self._said.values()))
        return f"cannot write {', '.join(self.subjects)}: {reasons}"


class RunStore:
    """Writes one run's folder; a disk that fails is reported once and never stops the run.

    Args:
        folder: The run folder, which exists.
        complaints: Where failures are reported.
    """

    def __init__(self, folder: Path, complaints: Complaints | None = None) -> None:
        self.folder = folder
        self.complaints = complaints or Complaints()
        self.manifest: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
        self.lost_events = 0
        self._torn = _ends_torn(folder / EVENTS)

    def update(self, **entries: Any) -> bool:
        """Set manifest entries and write the manifest atomically; returns whether it could be written."""
        self.manifest.update(entries)
        if self.lost_events:
            self.manifest["lost_events"] = self.lost_events
        text = json.dumps(plain(self.manifest), indent=2, ensure_ascii=False) + "\n"
        try:
            write_atomically(self.folder / MANIFEST, text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            self.complaints.say(MANIFEST, error)
            return False
        return True

    def append(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Append events, one line each, in one write."""
        lines = [_line(event) for event in events]
        if not lines:
            return
        # A write that failed midway may have left half a line; a newline first keeps the next one whole.
        data = ("\n" * self._torn + "\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        try:
            handle = os.open(self.folder / EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                written = os.write(handle, data)
                if written != len(data):
                    raise OSError(28, "No space left on device")
            finally:
                os.close(handle)
            self._torn = False
        except OSError as error:
            self._torn = True
            self.lost_events += len(lines)
            self.complaints.say(EVENTS, error)


def _ends_torn(path: Path) -> bool:
    """Whether the last line of a file lacks its end, as after a kill in the middle of a write."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # there is none yet, or it is empty
        return False


class _Versioned(TypedDict):
    schema_version: int


class Manifest(_Versioned, total=False):
    """What gradkit reads in `run.json`; a manifest may say more."""

    status: str
    attempt: int
    mode: str
    name: str | None
    seed: int | float | str | None
    overrides: list[str]
    config: dict[str, Any] | None
    cwd: str
    bookkeeping: list[str]
    places: list[str]
    started: str
    findings: list[dict[str, Any]] | None
    metrics: dict[str, Any] | None
    timings: dict[str, Any] | None
    differences: dict[str, Any] | None
    peaks: dict[str, Any] | None
    best: dict[str, Any] | None
    data: dict[str, Any]
    environment: dict[str, Any] | None
    versions: dict[str, Any] | None
    error: str
    steps: int | None


class _Kind(TypedDict):
    event: str


class Event(_Kind, total=False):
    """What gradkit reads in each line of `events.jsonl`, beside its numbers."""

    step: int | None
    attempt: int
    split: str | None
    optimizer: str | None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises:
        RunFolderError: `run.json` is missing, damaged, of another schema version, or holds a value of another type.
    """
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
        version = manifest.get("schema_version") if isinstance(manifest, dict) else type(manifest).__name__
        if version != SCHEMA_VERSION:
            raise RunFolderError(f"{path} has schema version {version!r}; this gradkit reads version {SCHEMA_VERSION}.")
        if wrong := mismatch(manifest, Manifest):
            raise UnreadableError(wrong)
    except (FileNotFoundError, NotADirectoryError):
        raise RunFolderError(f"{folder} is no run folder: it has no {MANIFEST}.") from None
    except (OSError, UnreadableError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise RunFolderError(f"{path} cannot be read: {reason}.") from None
    assert isinstance(manifest, dict)
    return manifest


def raw_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Every event of `events.jsonl` in file order.

    Lines cut off by a kill are passed over. So is what is no event of gradkit's, and a warning is logged that names the
    first such line.
    """
    path = folder / EVENTS
    strange: list[str] = []
    try:
        for place, line in lines(path):
            try:
                if line is None:
                    raise UnreadableError(f"it is longer than {LONGEST_LINE:,} bytes")
                event = parse(line)
                if wrong := mismatch(event, Event):
                    raise UnreadableError(wrong)
            except NoJsonError:
                continue
            except UnreadableError as error:
                strange.append(f"line {place}: {error}")
                continue
            yield event
    except FileNotFoundError:
        return
    except (OSError, UnreadableError) as error:
        strange.append(str(error))
    if strange:
        logger.warning("%s: passed over %d line(s) that are no events; %s", path, len(strange), strange[0])


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The events of a run, each kind, step, split and optimizer once: the last attempt counts.

    A run that was killed and resumed repeats the steps after its last checkpoint under a higher attempt.
    """
    latest: dict[tuple[Any, ...], dict[str, Any]] = {}
    for event in raw_events(folder):
        identity = (event["event"], event.get("step"), event.get("split"), event.get("optimizer"))
        if identity not in latest or event.get("attempt", 0) >= latest[identity].get("attempt", 0):
            latest[identity] = {name: number(value) for name, value in event.items()}
    return sorted(latest.values(), key=lambda event: (event.get("step") or 0, event["event"]))

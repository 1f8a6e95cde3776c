"""The files of a run: a manifest `run.json` and an append-only `events.jsonl`; imports no torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gradkit.errors import RunFolderError
from gradkit.store import number, plain, write_atomically

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


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises:
        RunFolderError: `run.json` is missing, damaged, or of another schema version.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{folder} is no run folder: it has no {MANIFEST}.") from None
    except RecursionError:
        raise RunFolderError(f"{path} is nested too deeply to be one of gradkit's.") from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}.") from None
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA_VERSION:
        found = manifest.get("schema_version") if isinstance(manifest, dict) else type(manifest).__name__
        raise RunFolderError(f"{path} has schema version {found!r}; this gradkit reads version {SCHEMA_VERSION}.")
    return manifest


def raw_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of `events.jsonl` in file order; half-written lines are passed over."""
    path = folder / EVENTS
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event


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

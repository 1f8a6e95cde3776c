"""The files of a run: a manifest `run.json` and an append-only `events.jsonl`; imports no torch."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gradkit.errors import RunFolderError

SCHEMA_VERSION = 1
MANIFEST = "run.json"
EVENTS = "events.jsonl"


def plain(value: Any) -> Any:
    """`value` as strict JSON data: non-finite floats become "NaN", "Infinity" or "-Infinity"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value


def number(value: Any) -> Any:
    """The inverse of `plain` for one value: the three words become floats again."""
    return float(value.replace("Infinity", "inf")) if value in ("NaN", "Infinity", "-Infinity") else value


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` so that a reader or a crash sees the old file or the new one, never a part.

    Raises:
        OSError: The folder cannot be written or the disk is full; the old file is untouched.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is its owner's alone; the result may be read by whom the umask lets read.
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _line(event: Mapping[str, Any]) -> str:
    try:
        return _ENCODER.encode(event)
    except ValueError:  # a number that JSON does not have
        return _ENCODER.encode(plain(event))


class Complaints:
    """Says on standard error, once per subject, that a file could not be written; training goes on."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, subject: str, error: BaseException) -> None:
        """Warn about `subject` unless that was done before."""
        if subject in self._said:
            return
        self._said.add(subject)
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
        self._torn = False

    def update(self, **entries: Any) -> None:
        """Set manifest entries and write the manifest atomically."""
        self.manifest.update(entries)
        if self.lost_events:
            self.manifest["lost_events"] = self.lost_events
        text = json.dumps(plain(self.manifest), indent=2, ensure_ascii=False) + "\n"
        try:
            write_atomically(self.folder / MANIFEST, text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            self.complaints.say(MANIFEST, error)

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

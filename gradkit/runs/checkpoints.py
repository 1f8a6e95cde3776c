"""Checkpoints that are written whole or not at all, carry a checksum, and never run code when read."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

import torch

from gradkit.errors import CheckpointError
from gradkit.reading import UnreadableError, check_regular, mismatch
from gradkit.runs.store import Complaints
from gradkit.store import write_atomically

BEST = "best.pt"
_STEP = re.compile(r"step-(\d{9})\.pt")


class State(TypedDict, total=False):
    """What a checkpoint holds; the best weights come with their step alone."""

    model: dict[str, torch.Tensor]
    step: int
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    precision: dict[str, Any]
    progress: dict[str, Any]
    differences: dict[str, float]
    rng: list[dict[str, Any]]


class Checkpoints:
    """The checkpoints of one run folder.

    A checkpoint is two files: the bytes of `torch.save` and, written first, their SHA-256. A crash between the two
    leaves a checksum without a checkpoint, which is ignored. Where a checkpoint is replaced, its file of checksums
    names the new bytes and, after them, the old: whichever are there after a crash are known.

    Args:
        folder: `checkpoints/` of the run folder; made on the first write.
        keep: Step checkpoints kept; older ones are removed once a newer one is whole.
        complaints: Where a disk that fails is reported.
    """

    def __init__(self, folder: Path, *, keep: int = 2, complaints: Complaints | None = None) -> None:
        self.folder = folder
        self._keep = keep
        self._complaints = complaints or Complaints()

    def save_step(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the checkpoint of `step` and remove those beyond the number to keep."""
        if self._save(f"step-{step:09d}.pt", state):
            try:
                for _, path in self._steps()[: -self._keep]:
                    path.unlink(missing_ok=True)
                    _checksum_file(path).unlink(missing_ok=True)
            except OSError as error:
                self._complaints.say("checkpoints", error)

    def save_best(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint with the lowest validation loss."""
        self._save(BEST, state)

    def latest(self) -> tuple[dict[str, Any], list[str]]:
        """The newest whole step checkpoint, on the CPU, and a sentence for each damaged one passed over.

        Raises:
            CheckpointError: There is none, or all are damaged.
        """
        damaged: list[str] = []
        for _, path in reversed(self._steps()):
            try:
                return load(path), damaged
            except CheckpointError as error:
                damaged.append(str(error))
        raise CheckpointError(" ".join([*damaged, f"No usable checkpoint in {self.folder}."]))

    @property
    def begun(self) -> bool:
        """Whether a step checkpoint was ever written, damaged ones included."""
        return bool(self._steps())

    def _steps(self) -> list[tuple[int, Path]]:
        found = []
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if match := _STEP.fullmatch(path.name):
                    found.append((int(match[1]), path))
        return sorted(found)

    def _save(self, name: str, state: Mapping[str, Any]) -> bool:
        # In memory first: torch's own writer turns a full disk into a RuntimeError without a reason.
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        content = buffer.getvalue()
        path = self.folder / name
        try:
            self.folder.mkdir(exist_ok=True)
            write_atomically(_checksum_file(path), _checksums(path, content))
            write_atomically(path, content)
        except OSError as error:
            self._complaints.say("checkpoints", error)
            return False
        return True


def load(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, tensors on the CPU; verified against its checksum, loaded with `weights_only`.

    Raises:
        CheckpointError: The file is missing, its checksum is missing or differs, or it is no plain state.
    """
    try:
        check_regular(path)
        content = path.read_bytes()
        expected = _checksum_file(path).read_text().split()
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename} is missing.") from None
    except (OSError, UnicodeDecodeError, UnreadableError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from None
    if hashlib.sha256(content).hexdigest() not in expected:
        raise CheckpointError(f"{path} is damaged: its SHA-256 differs from the one written beside it.")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or foreign file raises any of four unrelated types
        raise CheckpointError(f"{path} is no checkpoint of plain tensors: {type(error).__name__}.") from None
    if wrong := mismatch(state, State):
        raise CheckpointError(f"{path} is no checkpoint of gradkit's: {wrong}.")
    assert isinstance(state, dict)
    return state


def _checksums(path: Path, content: bytes) -> bytes:
    """The checksum of what is about to be written to `path`, and that of what is there, unless that is damaged."""
    known = [hashlib.sha256(content).hexdigest()]
    with suppress(FileNotFoundError):
        there = hashlib.sha256(path.read_bytes()).hexdigest()
        if there in _checksum_file(path).read_text(errors="replace").split():
            known.append(there)
    return "\n".join(dict.fromkeys(known)).encode()


def _checksum_file(path: Path) -> Path:
    return path.with_suffix(".sha256")

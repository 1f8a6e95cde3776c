"""The one writer of a folder: a lock that is gone with its process, and what killed writes left behind."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gradkit.config.wording import quoted
from gradkit.errors import RunFolderError
from gradkit.runs.store import EVENTS, MANIFEST

LOCK = ".lock"
"""The file that is locked; it stays, as removing it would let two processes lock two files of one name."""

WRITE_TEST = ".write-test"

_CHECKPOINT = r"(?:step-\d{9}|best)\.(?:pt|sha256)"
_LITTER = re.compile(rf"\.(?:{re.escape(MANIFEST)}|{re.escape(EVENTS)}|{_CHECKPOINT})\.[a-z0-9_]{{8}}|{WRITE_TEST}")
"""What `write_atomically` calls a file that is not yet whole."""


@contextmanager
def claimed(folder: Path, *, going_on: bool = False) -> Iterator[None]:
    """Be the only writer of a folder, made if it is not there, until the block ends or the process does.

    What earlier writers were killed in the middle of is removed first.

    Args:
        folder: Of a run, or of the runs of a sweep.
        going_on: The run that the folder holds is gone on with.

    Raises:
        RunFolderError: Another process writes to the folder, it holds a run that is not gone on with, or it cannot be
            made or written. Nothing in it has changed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunFolderError(f"The folder {folder} cannot be written: {error.strerror or error}.") from None
    try:
        if not _lock(handle):
            raise RunFolderError(
                f"{folder} is being written by {_holder(handle)}; wait for its end, or choose another folder."
            )
        if not going_on:
            refuse_run(folder)
        with suppress(OSError):  # a full disk: the number is for a message only
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        _tidy(folder)
        yield
    finally:
        os.close(handle)


def refuse_run(folder: Path, key: str = "hydra.run.dir") -> None:
    """Refuse to begin a run where there is one.

    Raises:
        RunFolderError: The folder holds a run.
    """
    if os.path.lexists(folder / MANIFEST):
        raise RunFolderError(
            f"{key}: {quoted(str(folder))} holds a run already; go on with it by trainer.resume={folder},"
            " or choose another folder."
        )


def _lock(handle: int) -> bool:
    """Whether the file is now locked by this process; a file system that knows no locks refuses nobody."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # Far behind the number of the process, which others may read.
            os.lseek(handle, 1024, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
    return True


def _holder(handle: int) -> str:
    try:
        text = os.pread(handle, 20, 0).decode("ascii", "replace")
    except OSError:
        text = ""
    return f"process {text}" if text.isdecimal() else "another process"


def _tidy(folder: Path) -> None:
    """Remove temporary files of killed writes, and checksums whose checkpoint was never written."""
    checkpoints = folder / "checkpoints"
    with suppress(OSError):
        for path in [*folder.iterdir(), *(checkpoints.iterdir() if checkpoints.is_dir() else ())]:
            orphan = path.suffix == ".sha256" and path.parent == checkpoints and not path.with_suffix(".pt").exists()
            if orphan or _LITTER.fullmatch(path.name):
                path.unlink(missing_ok=True)

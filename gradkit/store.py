"""Plain data to strict JSON, and files that are replaced whole or not at all."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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

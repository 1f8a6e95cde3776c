"""Files a user names: are they there, are they what they should be, what is in them, and do they fit in memory."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from gradkit.errors import DataError, GradkitError, did_you_mean

FULL_HASH_BYTES = 2**30
"""Above this size a fingerprint samples the file: hashing 1 GiB takes about a second."""

SAMPLED_BLOCKS = 64
SAMPLED_BLOCK_BYTES = 2**20

READER_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    ValueError,  # with UnicodeDecodeError
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,  # NumPy parses the header of an .npy as a Python literal
    tokenize.TokenError,  # the same, for headers written by Python 2
    ArithmeticError,
    NotImplementedError,
    RuntimeError,  # zipfile's answer to an encrypted member
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
"""What NumPy, zipfile and the operating system raise on damaged or foreign files; found by feeding them such files."""


def checked_file(path: str, key: str = "path") -> Path:
    """The file as a path, once it is known to be a readable regular file with something in it.

    Args:
        path: What the user gave.
        key: The configuration key it came from, below `data`.

    Raises:
        DataError: It is missing, a folder, a pipe or device, empty or not readable.
    """
    where = named(path, key)
    try:
        file = Path(path).expanduser()
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{where}: no such file.{_nearest_file(Path(path))}") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: cannot be opened: {one_line(error)}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{where}: is a folder, expected a file.")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{where}: is a pipe, socket or device, expected a regular file (it is read more than once).")
    if status.st_size == 0:
        raise DataError(f"{where}: is empty (0 bytes).")
    if not os.access(file, os.R_OK):
        raise DataError(f"{where}: cannot be opened: no permission to read it.")
    return file


def head(file: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, at most `size`."""
    with file.open("rb") as stream:
        return stream.read(size)


def fingerprint(files: Sequence[Path], full_bytes: int = FULL_HASH_BYTES) -> tuple[str, str | None]:
    """A hash that identifies files, and a note when it did not read all of them.

    Args:
        files: The files, in a fixed order; several give one hash of their hashes.
        full_bytes: Files up to this size are read whole [byte].

    Returns:
        `sha256:...` of the bytes, or `sha256-sampled:...` of size and `SAMPLED_BLOCKS` blocks spread evenly from
        the first byte to the last, with a sentence that says so.
    """
    hashes, sampled = [], []
    for file in files:
        size = file.stat().st_size
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            if size <= full_bytes:
                while block := stream.read(SAMPLED_BLOCK_BYTES):
                    digest.update(block)
            else:
                sampled.append(file.name)
                digest.update(str(size).encode())
                for index in range(SAMPLED_BLOCKS):
                    stream.seek(max(0, size - SAMPLED_BLOCK_BYTES) * index // (SAMPLED_BLOCKS - 1))
                    digest.update(stream.read(SAMPLED_BLOCK_BYTES))
        hashes.append(digest.hexdigest())
    combined = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    if not sampled:
        return f"sha256:{combined}", None
    return f"sha256-sampled:{combined}", (
        f"The fingerprint of {', '.join(map(repr, sampled))} covers its size and {SAMPLED_BLOCKS} blocks "
        f"of {SAMPLED_BLOCK_BYTES // 2**20} MiB, not every byte."
    )


@contextmanager
def translated(where: str, kind: str, *more: type[Exception]) -> Iterator[None]:
    """Turn whatever a reader raises on a bad file into one `DataError`.

    Args:
        where: The file in words, as `named` gives it.
        kind: What the file was read as: "a Parquet file".
        more: Further exception types of the reader in use.

    Raises:
        DataError: The block raised one of `READER_ERRORS`, `MemoryError` or one of `more`.
    """
    try:
        yield
    except GradkitError:
        raise
    except MemoryError as error:
        raise DataError(f"{where}: does not fit in memory.") from error
    except (*READER_ERRORS, *more) as error:
        raise DataError(f"{where}: cannot be read as {kind}: {one_line(error)}.") from error


def named(path: str | Path, key: str = "path") -> str:
    """The configuration key and the file, to open an error message."""
    return f"data.{key}={str(path)!r}"


def quoted(names: Sequence[object], limit: int = 6) -> str:
    """Names in quotes, separated by commas; the rest beyond `limit` as a number."""
    shown = ", ".join(_short(repr(name)) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def one_line(error: BaseException) -> str:
    """What an exception says, on one line of at most 200 characters and without the full stop."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return _short(" ".join(text.split()).rstrip("."), 200)


def require_memory(needed: int, where: str) -> None:
    """Refuse what cannot fit in this machine, before anything is allocated.

    Args:
        needed: Memory it takes for sure [byte].
        where: The source in words, to open the message.

    Raises:
        DataError: It needs more than the machine, or the control group of the process, has in all.
    """
    available = total_memory()
    if available is not None and needed > available:
        raise DataError(
            f"{where}: needs {needed / 2**30:,.1f} GiB of memory, this machine has {available / 2**30:,.1f} GiB."
        )


def total_memory() -> int | None:
    """Memory of the machine or of the control group it runs in, the smaller [byte]; None where it cannot be told."""
    limits = []
    with suppress(AttributeError, ValueError, OSError):  # no sysconf on Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # no control groups, or no limit ("max")
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min((limit for limit in limits if limit > 0), default=None)


def _nearest_file(path: Path) -> str:
    folder = path.expanduser().parent
    if not folder.is_dir():
        return f" The folder {str(folder)!r} does not exist."
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, 10_000)]
    except OSError:
        return ""
    return did_you_mean(path.name, names)


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."

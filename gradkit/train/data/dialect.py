"""How a file of delimited text is written: its encoding, what stands before its header, and its lines."""

from __future__ import annotations

import codecs
import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradkit.errors import ConfigError
from gradkit.train.data.files import head
from gradkit.train.schema.data import CsvData, delimiter_character

BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

PAGES = ("cp1252", "cp1250", "cp1251", "cp932", "gb18030")
"""Encodings that a message proposes: Windows in western and eastern Europe, Cyrillic, Japanese and Chinese."""

MARKS = ("?", "-", "--", ".", "..", "n.a.", "N.A.", "NaT", "None", "none", "missing", "unknown")
"""Marks of a missing cell that exports use beside those that pyarrow knows, once `data.missing` says what to do."""


@dataclass(frozen=True)
class Dialect:
    """How to read a file.

    Attributes:
        encoding: A codec of Python's.
        delimiter: Between two cells.
        decimal: The point of its numbers.
        skipped: Lines before the header.
        missing: Whether missing cells are provided for.
        notes: What was recognised, one sentence each.
    """

    encoding: str
    delimiter: str
    decimal: str
    skipped: int = 0
    missing: bool = False
    notes: tuple[str, ...] = ()


def dialect_of(file: Path, config: CsvData) -> Dialect:
    """What the configuration says of the file and its first lines show.

    Raises:
        ConfigError: The delimiter or the encoding cannot be used.
    """
    delimiter = delimiter_character(config.delimiter)
    if delimiter is None:
        raise ConfigError(f"data.delimiter={config.delimiter!r}: expected one ASCII character, or tab.")
    start = head(file, 2**16)
    mark = next((name for bom, name in BYTE_ORDER_MARKS.items() if start.startswith(bom)), None)
    encoding = config.encoding or mark or "utf-8"
    try:
        # Only to look at: whether all of it is text shows when it is read.
        text = start.decode(encoding, errors="replace")
    except (LookupError, ValueError):  # none of that name, or one that is not for text
        raise ConfigError(f"data.encoding={config.encoding!r} is no encoding; take one such as {PAGES[0]}.") from None
    found = Dialect(encoding, delimiter, config.decimal, missing=config.missing is not None)
    if mark is not None and config.encoding is None:
        found = replace(found, notes=("Read as UTF-16, by its byte-order mark.",))
    return _before_header(text, found)


def in_pages(encoding: str) -> str:
    """What to try with a file that is not text in `encoding`."""
    others = [page for page in PAGES if page != encoding]
    return f"if it was exported on Windows, add data.encoding={others[0]}, or {', '.join(others[1:])}"


def _before_header(text: str, found: Dialect) -> Dialect:
    """Take in `sep=;`, as Excel writes it, and lines of comment, which begin with #."""
    comments = 0
    for number, line in enumerate(text.lstrip("\ufeff").splitlines()):
        if number == 0 and line.lower().startswith("sep=") and len(line) == len("sep=") + 1:
            note = f"Cells separated by {line[-1]!r}, as its first line says."
            found = replace(found, delimiter=line[-1], skipped=1, notes=(*found.notes, note))
        elif line.startswith("#") and found.delimiter not in line:
            comments += 1
        else:
            break
    if not comments:
        return found
    note = f"Passed over {comments} line{'s' * (comments != 1)} of comment before the header."
    return replace(found, skipped=found.skipped + comments, notes=(*found.notes, note))


def line_of(file: Path, how: Dialect, sample: int) -> int | None:
    """The line of a file on which a sample, counted from 0, ends; None where that cannot be told."""
    try:
        with file.open(encoding=how.encoding, newline="") as stream:
            for _ in itertools.islice(stream, how.skipped):
                pass
            reader = csv.reader(stream, delimiter=how.delimiter)
            rows = (reader.line_num for row in reader if row)
            ends: Sequence[int] = list(itertools.islice(rows, sample + 1, sample + 2))
            return ends[0] + how.skipped if ends else None
    except (OSError, ValueError, csv.Error):
        return None

"""Lines of source around a place a finding names; only Python files, since the place may come from anybody's file."""

from __future__ import annotations

import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARGIN = 3
LARGEST_BYTES = 5_000_000
LONGEST_LINE = 400


def excerpt(place: Mapping[str, Any]) -> list[tuple[int, str, bool]]:
    """Number, text and whether it is the line meant, of the lines around a place; empty when it cannot be read.

    A report may be made from a run folder of a stranger, whose manifest could name any file of this machine: nothing
    but regular `.py` files is opened, so that no other content ends up in a page that is passed on.

    Args:
        place: With `file` and `line`, as in a JSON report.
    """
    file, line = place.get("file"), place.get("line")
    if not isinstance(file, str) or type(line) is not int or not file.endswith(".py"):
        return []
    try:
        path = Path(file)
        if not path.is_file() or path.resolve().suffix != ".py" or path.stat().st_size > LARGEST_BYTES:
            return []
        with tokenize.open(path) as source:
            lines = source.read().splitlines()
    except (OSError, ValueError, SyntaxError, UnicodeError):  # gone, no text, or of an unknown encoding
        return []
    if not 0 < line <= len(lines):
        return []
    first, last = max(1, line - MARGIN), min(len(lines), line + MARGIN)
    return [(number, lines[number - 1][:LONGEST_LINE], number == line) for number in range(first, last + 1)]

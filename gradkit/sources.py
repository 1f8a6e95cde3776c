"""Reads lines of the program's source text, whatever a file is called; imports no torch."""

from __future__ import annotations

import linecache
from pathlib import Path

PACKAGE = Path(__file__).parent
"""Where gradkit itself lies: nothing else may depend on how deep a file of it stands."""


def lines_of_file(file: str) -> list[str]:
    r"""The lines of a source file or notebook cell with their line breaks; none when it cannot be read.

    Example:
        >>> lines_of_file("no such file"), lines_of_file("a\0b"), lines_of_file("\ud800")
        ([], [], [])
    """
    try:
        return linecache.getlines(file)
    except ValueError:  # linecache forgives what the file system refuses, but not a NUL or a lone surrogate in the name
        return []


def line_of_file(file: str, line: int) -> str:
    """One line, counted from 1, with its line break; empty when there is none."""
    lines = lines_of_file(file)
    return lines[line - 1] if 0 < line <= len(lines) else ""

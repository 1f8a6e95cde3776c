"""The report of a watched run as its user meets it: printed, as text, as data."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, TextIO

from gradkit.report import text
from gradkit.report.contents import Contents
from gradkit.report.json_report import to_json


@dataclass(frozen=True, kw_only=True)
class Report(Contents):
    """Everything one watched run has to say, with the ways to show it."""

    def print(self, stream: TextIO | None = None, *, notes: bool = False) -> None:
        """Write the report to `stream`, standard error when None, in colour where that is wanted.

        Args:
            stream: Where to write.
            notes: Show notes in full; otherwise they are counted in the last line.

        Raises:
            OSError: The stream cannot be written to; `BrokenPipeError` where its reader has left.
        """
        text.write(self, stream, notes=notes)

    def text(self, *, notes: bool = False) -> str:
        """The report without colour."""
        stream = io.StringIO()
        self.print(stream, notes=notes)
        return stream.getvalue()

    def to_json(self) -> dict[str, Any]:
        """The report as data; `gradkit.report.json_report` describes it."""
        return to_json(self)

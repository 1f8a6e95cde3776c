"""The files a run can leave, each by the setting that names it; a further form is one more entry here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gradkit.settings import Settings

if TYPE_CHECKING:
    from gradkit.report.report import Report

Writer = Callable[["Report", Path, Path], None]
"""Writes a report to a file; the last argument is the folder the run was started in."""


def _json(report: Report, path: Path, started_in: Path) -> None:
    from gradkit.report.json_report import write_json

    write_json(report, path)


def _sarif(report: Report, path: Path, started_in: Path) -> None:
    from gradkit.report.sarif import write_sarif

    write_sarif(report, path, started_in)


def _html(report: Report, path: Path, started_in: Path) -> None:
    from gradkit.report.html import watch_page
    from gradkit.report.json_report import to_json
    from gradkit.store import write_atomically

    write_atomically(path, watch_page(to_json(report)).encode("utf-8", "backslashreplace"))


def _baseline(report: Report, path: Path, started_in: Path) -> None:
    from gradkit.suppress import write_baseline

    write_baseline(report.findings, path)


def outputs(settings: Settings) -> list[tuple[Path, Writer]]:
    """What the user asked to be written, in the order of `--help`."""
    wanted: list[tuple[str | None, Writer]] = [
        (settings.report, _json),
        (settings.sarif, _sarif),
        (settings.html, _html),
    ]
    if settings.write_baseline:
        wanted.append((settings.baseline, _baseline))
    return [(Path(path), write) for path, write in wanted if path is not None]


def rank_files(settings: Settings) -> str | None:
    """The name that the files of single ranks are made from; None when no file is wanted at all."""
    first = next((path for path, _ in outputs(settings)), None)
    return str(first.with_suffix(".json")) if first is not None else None

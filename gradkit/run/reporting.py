"""How a watched process speaks: lines at once, the summary at the end, and files; standard output is never touched."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradkit.run.outputs import outputs, rank_files
from gradkit.run.ranks import Rank, this_rank
from gradkit.settings import Settings

if TYPE_CHECKING:
    from gradkit.findings import Finding
    from gradkit.report.report import Report


def say(line: str) -> None:
    """Write a line to standard error; where that is closed nobody is left to read it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def attempt(what: object, write: Callable[[], Any]) -> None:
    """Write something; a disk that refuses is reported and does no harm."""
    try:
        write()
    except OSError as error:
        say(f"gradkit: cannot write {what}: {error.strerror or error}")


class Reporting:
    """Speaks for one process in the form the user asked for.

    Args:
        settings: What the user asked for.
        is_child: Another process reports at the end; this one only speaks at once.
    """

    def __init__(self, settings: Settings, is_child: bool) -> None:
        self.settings = settings
        self.is_child = is_child
        self._started_in = Path.cwd()
        self._said: set[str] = set()

    @property
    def _annotates(self) -> bool:
        return self.settings.format == "github"

    def at_once(self, finding: Finding) -> None:
        """Say a finding when it is found."""
        if not self._annotates or self.is_child or this_rank().number:
            say(_line(finding))
            return
        from gradkit.fingerprints import fingerprint
        from gradkit.report.github import annotation

        say(annotation(finding))
        self._said.add(fingerprint(finding))

    def at_the_end(self, report: Report, rank: Rank) -> None:
        """Print the summary; ranks above 0 of a launcher that is not watched say what they have not said yet."""
        notes = self.settings.show == "notes"
        if rank.number:
            least = ("note", "warning") if notes else ("warning",)
            for finding in report.findings:
                if finding.severity.value in least:
                    say(_line(finding))
        elif self._annotates:
            from gradkit.report.github import annotations

            for line in annotations(report, notes=notes, said=self._said):
                say(line)
        else:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                report.print(sys.stderr, notes=notes)
            shown = [each.rule for each in report.findings if notes or each.severity.value != "note"]
            if shown:
                say(f"gradkit: for more, python -m gradkit.explain {' '.join(dict.fromkeys(shown))}")

    def clear(self, rank: Rank) -> None:
        """Remove what this rank left in an earlier run, so that it is not taken for this one's."""
        name = rank_files(self.settings)
        if rank.count > 1 and not self.is_child and name is not None:
            from gradkit.run.merge import own_file

            attempt(name, lambda: Path(own_file(name, rank)).unlink(missing_ok=True))

    def keep(self, report: Report, rank: Rank) -> None:
        """Write the JSON report of a run that is still going on."""
        name = rank_files(self.settings) if rank.count > 1 else self.settings.report
        if name is not None:
            from gradkit.report.json_report import write_json
            from gradkit.run.merge import own_file

            path = own_file(name, rank)
            attempt(path, lambda: write_json(report, path))

    def write(self, report: Report, rank: Rank) -> None:
        """Write every file the user asked for; of several ranks each its own, and the last one all together."""
        name = rank_files(self.settings)
        if rank.count <= 1 or name is None:
            self._write_outputs(report)
            return
        from gradkit.run.merge import merged_ranks

        self.keep(report, rank)
        attempt(name, lambda: merged_ranks(name, rank, self._write_outputs))

    def _write_outputs(self, report: Report) -> None:
        for path, write in outputs(self.settings):
            attempt(path, functools.partial(write, report, path, self._started_in))


def _line(finding: Finding) -> str:
    from gradkit.report.text import short

    rank = this_rank()
    place = finding.location
    where = f" {short(place.file)}:{place.line}:" if place else ""
    who = f" [rank {rank.number}]" if rank.count > 1 else ""
    return f"gradkit:{who} {finding.severity.value}[{finding.rule}]{where} {finding.message}"

"""One watched process: starts to observe when torch is imported, says errors at once, and reports when Python ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradkit.run.imports import ImportFinder, own_path
from gradkit.run.ranks import Rank, this_rank
from gradkit.settings import Settings

if TYPE_CHECKING:
    from gradkit.findings import Finding
    from gradkit.observe.monitor import Monitor
    from gradkit.report.text import Report
    from gradkit.suppress import Suppressor


class Session:
    """Watches this process for as long as it lives.

    Args:
        settings: What the user asked for.
        parts: Folder for the reports of child processes. A child is given its parent's; the process that was started
            by the user has none yet and makes up the name.
    """

    def __init__(self, settings: Settings, parts: Path | None = None) -> None:
        self.settings = settings
        self.is_child = parts is not None
        self._parts = parts
        self._monitor: Monitor | None = None
        self._suppressor: Suppressor | None = None
        self._inherited: Report | None = None
        self._owner = os.getpid()
        self._quiet = False
        self._finished = False
        self._problem = ""
        self.at_last: Callable[[], None] = lambda: None
        self._said: set[str] = set()
        self._finder = ImportFinder()

    def begin(self) -> None:
        """Wait for torch, follow children, and be the last to hear that Python ends."""
        from gradkit.run import children

        if self.settings.baseline is not None and not self.settings.write_baseline:
            self._make_suppressor()  # a baseline that cannot be read is told before the script runs
        rank = this_rank()
        if rank.count > 1 and not self.is_child and self.settings.report is not None:
            from gradkit.run.merge import own_file

            Path(own_file(self.settings.report, rank)).unlink(missing_ok=True)  # of an earlier run
        # Registered before the script registers anything, so called after all of it.
        atexit.register(self.finish)
        children.follow(self)
        self.wait_for("torch", self._torch_arrived)

    def wait_for(self, module: str, arrived: Callable[[], None]) -> None:
        """Call `arrived` when `module` has been imported; what it raises is kept for the report."""

        def contained() -> None:
            try:
                with own_path():
                    arrived()
            except Exception:  # our own bug must not break the script's import statement; it is told at the end
                self._problem = self._problem or traceback.format_exc()

        self._finder.wait_for(module, contained)

    # --- watching -----------------------------------------------------------------------------------------------

    def _torch_arrived(self) -> None:
        from gradkit.observe.monitor import Monitor

        suppressor = self._make_suppressor()
        given = self.settings
        self._monitor = Monitor(
            deep=given.deep,
            accumulate=given.accumulate,
            frozen=given.frozen,
            select=given.select,
            ignore=given.ignore,
            settings=given.rules,
            halt_on=given.halt_on,
            report="never",
            on_finding=self._found,
            suppressed=lambda finding: suppressor.reason(finding) is not None,
        )
        self._monitor.start()

    def _make_suppressor(self) -> Suppressor:
        if self._suppressor is None:
            from gradkit.suppress import Suppressor

            given = self.settings
            self._suppressor = Suppressor(None if given.write_baseline else given.baseline)
        return self._suppressor

    def _found(self, finding: Finding) -> None:
        """Say an error at once, and keep what is known on disk: the process may be killed."""
        with own_path():
            self._tell(finding)

    def _tell(self, finding: Finding) -> None:
        try:
            if self._quiet or self._make_suppressor().reason(finding):
                return
            if finding.severity.value == "error":
                self._say(self._line(finding))
                if self.settings.format == "github":
                    from gradkit.fingerprints import fingerprint

                    self._said.add(fingerprint(finding))
            self._keep()
        except Exception:  # our own bug must not stop training; it is told at the end
            self._problem = self._problem or traceback.format_exc()

    def _line(self, finding: Finding) -> str:
        rank = this_rank()
        if self.settings.format == "github" and not self.is_child and rank.number == 0:
            from gradkit.report.github import annotation

            return annotation(finding)
        place = finding.location
        where = f" {_short(place.file)}:{place.line}:" if place else ""
        who = f" [rank {rank.number}]" if rank.count > 1 else ""
        return f"gradkit:{who} {finding.severity.value}[{finding.rule}]{where} {finding.message}"

    @staticmethod
    def _say(line: str) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed or None: nobody is left to read
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    # --- children -----------------------------------------------------------------------------------------------

    @property
    def parts(self) -> Path:
        """The folder where children leave their reports; made by the first that has something to report."""
        if self._parts is None:
            import tempfile
            import uuid

            self._parts = Path(tempfile.gettempdir()) / f"gradkit-{uuid.uuid4().hex}"
        return self._parts

    def forked(self) -> None:
        """Go on in a child made by `fork`: what the parent found is the parent's to report."""
        self.is_child = True
        self._owner = os.getpid()
        self._finished = self._quiet = False
        if self._monitor is not None:
            self._inherited = self._monitor.report()

    def own_report(self) -> Report | None:
        """What this process itself saw; None when it has not imported torch."""
        if self._monitor is None:
            return None
        report = self._monitor.report()
        if self._inherited is None:
            return report
        from gradkit.run.merge import difference

        return difference(report, self._inherited)

    def _keep(self) -> None:
        """Write what is known so far, for the case that this process does not come to its end."""
        given = self.settings
        if self.is_child:
            self._write_part()
        elif given.report is not None:
            report = self.own_report()
            if report is not None:
                from gradkit.run.merge import own_file

                self._write("report", lambda: _write_json(report, own_file(given.report or "", this_rank())))

    def _write_part(self) -> None:
        report = self.own_report()
        if report is None or not (report.findings or report.suppressed or report.info.steps or report.info.backwards):
            return
        from gradkit.run.merge import write_part

        self._write("its part of the report", lambda: write_part(report, self.parts, this_rank()))

    def _write(self, what: str, write: Callable[[], Any]) -> None:
        try:
            write()
        except OSError as error:
            self._say(f"gradkit: cannot write {what}: {error}")

    # --- the end ------------------------------------------------------------------------------------------------

    def fails(self) -> bool:
        """Whether a finding makes the run fail by `fail_on`; waits for threads, as Python is about to do."""
        given = self.settings
        if given.fail_on == "never" or given.write_baseline or self.is_child or os.getpid() != self._owner:
            return False
        # Training may go on in threads of the script's. This is what Python itself does next, and does once.
        getattr(threading, "_shutdown", lambda: None)()
        with own_path():
            report = self._whole()
        if report is None:
            return False
        from gradkit.findings import Severity

        least = Severity(given.fail_on)
        return any(least <= finding.severity for finding in report.findings)

    def _whole(self) -> Report | None:
        """What this process and its children saw."""
        own = self.own_report()
        rank = this_rank()
        if own is not None and rank.count > 1:
            own = replace(own, findings=tuple(replace(finding, ranks=(rank.number,)) for finding in own.findings))
        if self._parts is None or not self._parts.is_dir():
            return own
        from gradkit.run.merge import whole

        return whole(own, self._parts)

    def finish(self) -> None:
        """Stop watching and report; the second call does nothing."""
        if self._finished or os.getpid() != self._owner:
            return
        self._finished = True
        self._quiet = True
        self._finder.remove()
        with own_path():
            self._end()
        self.at_last()

    def _end(self) -> None:
        try:
            if self._monitor is not None:
                self._monitor.stop()
            if self.is_child:
                self._write_part()
            else:
                self._report_all()
        except Exception:  # after training nothing of ours may change the outcome; it is told, not hidden
            self._problem = self._problem or traceback.format_exc()
        if self._problem:
            self._say("gradkit: an error inside gradkit; the script was not affected:\n" + self._problem.rstrip())

    def _report_all(self) -> None:
        given, rank = self.settings, this_rank()
        report = self._whole()
        if self._parts is not None and self._parts.is_dir():
            import shutil

            shutil.rmtree(self._parts, ignore_errors=True)
        if report is None:
            if not self._problem:
                self._say("gradkit: the script did not import torch; there was nothing to watch.")
            if not (given.report or given.sarif or given.html or given.write_baseline):
                return
            from gradkit.report.text import Report

            report = Report(findings=())
        elif rank.number == 0:
            self._print(report)
        else:
            self._print_rank(report, rank)
        self._write_files(report, rank)

    def _print(self, report: Report) -> None:
        notes = self.settings.show == "notes"
        if self.settings.format == "github":
            from gradkit.report.github import annotations

            for line in annotations(report, notes=notes, said=self._said):
                self._say(line)
            return
        with contextlib.suppress(OSError, ValueError, AttributeError):
            report.print(sys.stderr, notes=notes)
            shown = [each.rule for each in report.findings if notes or each.severity.value != "note"]
            if shown:
                self._say(f"gradkit: python -m gradkit.explain {' '.join(dict.fromkeys(shown))}")

    def _print_rank(self, report: Report, rank: Rank) -> None:
        """Errors of this rank were said at once; what else it found is said in one line each."""
        least = ("note", "warning") if self.settings.show == "notes" else ("warning",)
        for finding in report.findings:
            if finding.severity.value in least:
                self._say(self._line(finding))

    def _write_files(self, report: Report, rank: Rank) -> None:
        from gradkit.run.merge import merged_ranks, own_file

        given = self.settings
        if given.report is not None:
            path = own_file(given.report, rank)
            self._write("the report", lambda: _write_json(report, path))
        if rank.count > 1:
            if given.report is not None:
                self._write("the report", lambda: merged_ranks(given.report or "", rank, _write_json))
            if rank.number != 0:
                return
        if given.sarif is not None:
            from gradkit.report.sarif import write_sarif

            path = given.sarif
            self._write("the SARIF report", lambda: write_sarif(report, path))
        if given.html is not None:
            page = given.html
            self._write("the HTML report", lambda: _write_html(report, page))
        if given.write_baseline and given.baseline is not None:
            from gradkit.suppress import write_baseline

            target = Path(given.baseline)
            self._write("the baseline", lambda: write_baseline(report.findings, target))


def _write_json(report: Report, path: str) -> None:
    from gradkit.report.json_report import write_json

    write_json(report, path)


def _write_html(report: Report, path: str) -> None:
    from gradkit.report.html import watch_page
    from gradkit.report.json_report import to_json
    from gradkit.store import write_atomically

    write_atomically(Path(path), watch_page(to_json(report)).encode("utf-8", "backslashreplace"))


def _short(path: str) -> str:
    from gradkit.report.text import short

    return short(path)

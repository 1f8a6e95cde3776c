"""One watched process: starts to observe when torch is imported, says errors at once, and reports when Python ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradkit.run.imports import ImportFinder, own_path
from gradkit.run.outputs import outputs
from gradkit.run.ranks import this_rank
from gradkit.run.reporting import Reporting, attempt, say
from gradkit.settings import Settings

if TYPE_CHECKING:
    from gradkit.findings import Finding
    from gradkit.observe.monitor import Monitor
    from gradkit.report.report import Report
    from gradkit.suppress import Suppressor

OVERHEAD = 100
"""While a script runs, at most this part of its time goes into keeping the report on disk up to date."""


class Session:
    """Watches this process for as long as it lives.

    Args:
        settings: What the user asked for.
        parts: Folder for the reports of child processes. A child is given its parent's; the process that was started
            by the user has none yet and makes up the name.

    Attributes:
        at_last: Called when everything is reported.
    """

    def __init__(self, settings: Settings, parts: Path | None = None) -> None:
        self.settings = settings
        self.reporting = Reporting(settings, is_child=parts is not None)
        self.at_last: Callable[[], None] = lambda: None
        self._parts = parts
        self._finder = ImportFinder()
        self._monitor: Monitor | None = None
        self._suppressor: Suppressor | None = None
        self._inherited: Report | None = None
        self._owner = os.getpid()
        self._keep_after, self._kept = 0.0, 0
        self._ending = self._finished = False
        self._came_late = "torch" in sys.modules
        self._problem = ""

    def begin(self) -> None:
        """Wait for torch, and be the last to hear that Python ends.

        Raises:
            ConfigError: The baseline cannot be read.
        """
        if self.settings.baseline is not None and not self.settings.write_baseline:
            self._make_suppressor()
        self.reporting.clear(this_rank())
        # Registered before the script registers anything, so called after all of it.
        atexit.register(self.finish)
        self.wait_for("torch", self._torch_arrived)

    def wait_for(self, module: str, arrived: Callable[[], None]) -> None:
        """Call `arrived` when `module` has been imported; what it raises is told at the end."""
        self._finder.wait_for(module, lambda: self._contained(arrived))

    def _contained(self, call: Callable[[], None]) -> None:
        """Do something of ours in the midst of the script, which it must not break."""
        try:
            with own_path():
                call()
        except Exception:  # our own bug; it is told at the end, not hidden
            self._problem = self._problem or traceback.format_exc()

    # --- watching -----------------------------------------------------------------------------------------------

    def _torch_arrived(self) -> None:
        # What will be needed in the midst of training or at the end is imported now: later the script may have other
        # ideas of `sys.path`, and threads.
        import gradkit.report.json_report
        import gradkit.run.merge  # noqa: F401
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
        self._monitor.start(look_for_optimizers=self._came_late)

    def _make_suppressor(self) -> Suppressor:
        if self._suppressor is None:
            from gradkit.suppress import Suppressor

            given = self.settings
            self._suppressor = Suppressor(None if given.write_baseline else given.baseline)
        return self._suppressor

    def _found(self, finding: Finding) -> None:
        """Say an error at once, and keep what is known on disk: the process may be killed."""
        try:
            if self._ending or self._make_suppressor().reason(finding):
                return
            if finding.severity.value == "error":
                self.reporting.at_once(finding)
            self._keep()
        except Exception:  # our own bug must not stop training; it is told at the end
            self._problem = self._problem or traceback.format_exc()

    def own_report(self) -> Report | None:
        """What this process itself has seen so far; None when it has not imported torch."""
        monitor = self._monitor
        if monitor is None:
            return None
        from gradkit.report.report import Report

        # Not `monitor.report()`: that settles what is pending, and this is also called from within a judgement.
        found, suppressed = self._make_suppressor().split(monitor.engine.findings())
        rules = tuple((rule.code, rule.name) for rule in monitor.rules)
        report = Report(
            findings=found, suppressed=suppressed, info=monitor.info, rules=rules, dropped=monitor.engine.dropped
        )
        if self._inherited is None:
            return report
        from gradkit.run.merge import difference

        return difference(report, self._inherited)

    def _keep(self) -> None:
        """Write what is known so far, in case this process does not come to its end."""
        now = time.monotonic()
        if now < self._keep_after:
            return
        if self.reporting.is_child:
            self._write_part()
        elif self.settings.report is not None and (report := self.own_report()) is not None:
            self.reporting.keep(report, this_rank())
        self._kept += 1
        if self._kept > 3:
            self._keep_after = now + OVERHEAD * (time.monotonic() - now)

    # --- children -----------------------------------------------------------------------------------------------

    @property
    def parts(self) -> Path:
        """The folder where children leave their reports; made by the first that has something to report."""
        if self._parts is None:
            named = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
            folder = next((Path(name) for name in named if name and Path(name).is_dir()), Path("/tmp"))
            self._parts = folder.absolute() / f"gradkit-{os.urandom(16).hex()}"
        return self._parts

    def forked(self) -> None:
        """Go on in a child made by `fork`: what the parent found is the parent's to report."""
        self.reporting.is_child = True
        self._owner = os.getpid()
        self._finished = self._ending = False
        self._inherited = None
        self._contained(self._remember)

    def _remember(self) -> None:
        self._inherited = self.own_report()

    def _write_part(self) -> None:
        report = self.own_report()
        if report is None or not (report.findings or report.suppressed or report.info.steps or report.info.backwards):
            return
        from gradkit.run.merge import write_part

        attempt("its part of the report", lambda: write_part(report, self.parts, this_rank()))

    def _is_idle_fork(self) -> bool:
        """Whether this process only did other work for its parent, as those of data loaders do: then touch nothing."""
        seen = self.own_report() if self._inherited is not None else None
        return seen is not None and not (seen.info.steps or seen.info.backwards or seen.findings)

    # --- the end ------------------------------------------------------------------------------------------------

    def fails(self) -> bool:
        """Whether a finding makes the run fail by `fail_on`; waits for threads, as Python is about to do."""
        given = self.settings
        is_another = self.reporting.is_child or os.getpid() != self._owner
        if given.fail_on == "never" or given.write_baseline or is_another:
            return False
        # Training may go on in threads of the script's. This is what Python itself does next, and does once.
        getattr(threading, "_shutdown", lambda: None)()
        worst: list[int] = []
        self._contained(lambda: worst.extend(self._ranks()))
        return max(worst, default=-1) >= ("note", "warning", "error").index(given.fail_on)

    def _ranks(self) -> list[int]:
        if self._monitor is not None:
            self._monitor.settle()
        report = self._whole()
        return [finding.severity.rank for finding in report.findings] if report is not None else []

    def _whole(self) -> Report | None:
        """What this process and its children saw."""
        own, rank = self.own_report(), this_rank()
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
        self._finished = self._ending = True
        self._finder.remove()
        self._contained(self._end)
        if self._problem:
            say("gradkit: an error inside gradkit; the script was not affected:\n" + self._problem.rstrip())
        self.at_last()

    def _end(self) -> None:
        if self._monitor is not None and not self._is_idle_fork():
            self._monitor.stop()
        if self.reporting.is_child:
            self._write_part()
            return
        report = self._whole()
        if self._parts is not None and self._parts.is_dir():
            import shutil

            shutil.rmtree(self._parts, ignore_errors=True)
        if report is not None:
            self.reporting.at_the_end(report, this_rank())
        elif not self._problem:
            say("gradkit: the script did not import torch; there was nothing to watch.")
        if report is None and outputs(self.settings):
            from gradkit.report.report import Report

            report = Report(findings=())
        if report is not None:
            self.reporting.write(report, this_rank())

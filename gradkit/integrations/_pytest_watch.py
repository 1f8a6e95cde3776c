"""Watches one test: starts the monitor, judges what it found, and hands it to the test's report."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from gradkit.findings import Finding, Severity
from gradkit.integrations._pytest_session import Settings, settings_of

if TYPE_CHECKING:
    from gradkit.check import CheckResult
    from gradkit.observe.monitor import Monitor
    from gradkit.report.report import Report

STATE: pytest.StashKey[ItemState] = pytest.StashKey()


class Watch:
    """What the fixture `gradkit_watch` gives a test.

    Args:
        settings: How the test is watched.

    Attributes:
        settings: How the test is watched.
        monitor: The `gradkit.Monitor` behind it, over the whole process.
    """

    def __init__(self, settings: Settings) -> None:
        from gradkit.observe.monitor import Monitor

        self.settings = settings
        self.monitor: Monitor = Monitor(
            select=settings.select, ignore=settings.ignore, accumulate=settings.accumulate, report="never"
        )
        self._expected: set[str] = set()
        self.monitor.start()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings so far, worst first, those the test expected left out."""
        return tuple(finding for finding in self.monitor.findings if finding.rule not in self._expected)

    @property
    def expected(self) -> tuple[Finding, ...]:
        """Findings the test said it expected; they do not fail it."""
        return tuple(finding for finding in self.monitor.findings if finding.rule in self._expected)

    def expect(self, *rules: str) -> tuple[Finding, ...]:
        """The findings of `rules` so far, at least one of each; they no longer fail the test.

        Args:
            rules: Codes, such as `GK101`.

        Raises:
            AssertionError: A rule has reported nothing so far.
            gradkit.errors.ConfigError: There is no such rule.
        """
        __tracebackhide__ = True
        from gradkit.engine import select_rules

        select_rules(rules)
        found = self.monitor.findings
        for rule in rules:
            if not any(finding.rule == rule for finding in found):
                seen = ", ".join(sorted({finding.rule for finding in found})) or "nothing"
                raise AssertionError(f"gradkit was expected to report {rule} and reported {seen}.")
        self._expected.update(rules)
        return tuple(finding for finding in found if finding.rule in rules)

    def report(self) -> Report:
        """The report so far: `.text()`, `.to_json()`."""
        from dataclasses import replace

        return replace(self.monitor.report(), findings=self.findings, suppressed=self.expected)

    def failing(self) -> tuple[Finding, ...]:
        """The findings that fail the test."""
        if self.settings.fail_on == "never":
            return ()
        least = Severity(self.settings.fail_on)
        return tuple(finding for finding in self.findings if least <= finding.severity)


class ItemState:
    """All that gradkit keeps for one test.

    Args:
        item: The test.
    """

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._watch: Watch | None = None
        self._check_findings: list[Finding] = []
        self._text = ""
        self._finished = self._delivered = False
        self._failed = False

    def watch(self) -> Watch:
        """The watch of this test, started at the first call."""
        if self._watch is None:
            problem = ""
            try:
                settings = settings_of(self._item)
            except pytest.UsageError as error:
                problem = str(error)
            if problem:
                pytest.fail(problem, pytrace=False)
            self._watch = Watch(settings)
        return self._watch

    def checker(self, name: str) -> Callable[..., CheckResult]:
        """A function of `gradkit.check` that fails the test unless the check passes."""
        from gradkit import check

        function: Callable[..., CheckResult] = getattr(check, name)

        @functools.wraps(function)
        def checked(*args: Any, allow_inconclusive: bool = False, **kwargs: Any) -> CheckResult:
            __tracebackhide__ = True
            result = function(*args, **kwargs)
            self._check_findings.extend(result.findings)
            result.assert_ok(allow_inconclusive=allow_inconclusive)
            return result

        return checked

    def finish(self) -> str:
        """Stop watching; the text that says why the test fails, or an empty one."""
        if self._watch is None or self._finished:
            return ""
        self._finished = True
        self._watch.monitor.stop()
        failing = self._watch.failing()
        if failing:
            self._failed = True
            fail_on = self._watch.settings.fail_on
            self._text = self._watch.report().text(notes=fail_on == "note").rstrip()
        return self._text

    def deliver(self, report: pytest.TestReport) -> None:
        """Attach what was seen to a test's report, once; as text, which every carrier of reports can carry."""
        if self._delivered:
            return
        self._delivered = True
        record = self._record()
        if record is not None:
            report.gradkit = json.dumps(record)  # type: ignore[attr-defined]
        if self._text and report.failed and self._text not in report.longreprtext:
            report.sections.append(("gradkit", self._text))

    def _record(self) -> dict[str, Any] | None:
        from dataclasses import replace

        from gradkit.report.report import Report

        seen = self._watch.report() if self._watch is not None else Report(findings=())
        whole = replace(seen, findings=(*seen.findings, *self._check_findings))
        if not (whole.findings or whole.suppressed or seen.info.steps or seen.info.backwards):
            return None
        return {"failed_on": self._failed and self._watch is not None, "report": whole.to_json()}


def state_of(item: pytest.Item) -> ItemState:
    """The state of a test, made at the first call."""
    state = item.stash.get(STATE, None)
    if state is None:
        state = item.stash[STATE] = ItemState(item)
    return state

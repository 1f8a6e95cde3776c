"""What the pytest plugin keeps for a session: settings, and what every test reported; imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gradkit.errors import ConfigError, did_you_mean

FAIL_ON = ("error", "warning", "note", "never")
ARGUMENTS = ("fail_on", "select", "ignore", "accumulate")
"""Of the marker; the ini settings are the same names after `gradkit_`."""

SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()


@dataclass(frozen=True)
class Settings:
    """How a test is watched.

    Attributes:
        fail_on: Least severity of a finding that fails the test, or `never`.
        select: Rule codes or prefixes to run; None is all.
        ignore: Rule codes or prefixes to leave out.
        accumulate: Declared micro-batches per optimizer step.
    """

    fail_on: str = "error"
    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    accumulate: int | None = None

    def updated(self, values: Mapping[str, Any], where: str) -> Settings:
        """These settings with `values` in place of some.

        Args:
            values: Names among `ARGUMENTS` and their values.
            where: What a message calls the place the values come from.

        Raises:
            pytest.UsageError: A name is unknown or a value cannot be used.
        """
        for name in values:
            if name not in ARGUMENTS:
                raise pytest.UsageError(
                    f"{where} has no argument {name!r}.{did_you_mean(name, ARGUMENTS)} "
                    f"The arguments are {', '.join(ARGUMENTS)}."
                )
        changed: dict[str, Any] = dict(values)
        if "fail_on" in changed and changed["fail_on"] not in FAIL_ON:
            got = changed["fail_on"]
            raise pytest.UsageError(
                f"{where}: fail_on takes {', '.join(FAIL_ON)}, not {got!r}.{did_you_mean(str(got), FAIL_ON)}"
            )
        for name in ("select", "ignore"):
            if changed.get(name) is not None:
                changed[name] = _codes(changed[name], name, where)
        if changed.get("ignore", ()) is None:
            changed["ignore"] = ()
        count = changed.get("accumulate")
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise pytest.UsageError(
                f"{where}: accumulate takes a whole number of micro-batches of at least 1, not {count!r}."
            )
        return replace(self, **changed)


def _codes(value: object, name: str, where: str) -> tuple[str, ...]:
    codes = (value,) if isinstance(value, str) else value
    if not isinstance(codes, Sequence) or not all(isinstance(code, str) for code in codes):
        raise pytest.UsageError(f"{where}: {name} takes rule codes such as 'GK101', not {value!r}.")
    from gradkit.engine import select_rules  # reads every rule file, so only where a rule is named

    try:
        if name == "select":
            select_rules(select=tuple(codes))
        else:
            select_rules(ignore=tuple(codes))
    except ConfigError as error:
        raise pytest.UsageError(f"{where}: {error}") from None
    return tuple(codes)


def settings_of(item: pytest.Item) -> Settings:
    """The settings of one test: those of the session, then of each marker from the outermost to the nearest.

    Raises:
        pytest.UsageError: A marker cannot be used.
    """
    settings = item.config.stash[SETTINGS]
    for marker in reversed(list(item.iter_markers("gradkit"))):
        where = f"{item.nodeid}: mark.gradkit"
        if marker.args:
            raise pytest.UsageError(
                f"{where} takes arguments by name only ({', '.join(ARGUMENTS)}), not {marker.args[0]!r}."
            )
        settings = settings.updated(marker.kwargs, where)
    return settings


def check_markers(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Read the markers of all tests, so that a wrong one is told before the first test runs.

    Raises:
        pytest.UsageError: A marker cannot be used.
    """
    if hasattr(config, "workerinput"):
        return  # a worker of xdist that ends here takes the session down; the test itself tells, at its set-up
    for item in items:
        settings_of(item)


def start(config: pytest.Config) -> None:
    """Read the settings of the session and collect what its tests report.

    Raises:
        pytest.UsageError: An option or ini setting cannot be used.
    """
    settings = Settings()
    for name in ARGUMENTS:
        value: Any = config.getini(f"gradkit_{name}")
        if value:
            if name == "accumulate" and str(value).isdecimal():
                value = int(value)
            settings = settings.updated({name: value}, f"ini setting gradkit_{name}")
    if (word := config.getoption("gradkit_fail_on")) is not None:
        settings = settings.updated({"fail_on": word}, "--gradkit-fail-on")
    config.stash[SETTINGS] = settings
    path = config.getoption("gradkit_report")
    if path is not None:
        path = Path(config.invocation_params.dir, path)
        if path.is_dir() or not path.parent.is_dir():
            raise pytest.UsageError(f"--gradkit-report takes a file in a folder that exists, not {str(path)!r}.")
    if not hasattr(config, "workerinput"):  # a worker of xdist reports to the process that started it
        config.pluginmanager.register(Collected(config, path), "gradkit-collected")


class Collected:
    """Gathers what the tests of this session reported, in whatever process they ran.

    Args:
        config: pytest's.
        path: Where the JSON report goes; None writes none.
    """

    def __init__(self, config: pytest.Config, path: Path | None) -> None:
        self.config, self.path = config, path
        self.records: list[dict[str, Any]] = []
        self.problem = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test's report carries of ours."""
        text = getattr(report, "gradkit", None)
        if text is not None:
            self.records.append({"test": report.nodeid, "outcome": report.outcome, **json.loads(text)})

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report of the session."""
        if self.path is None or self.config.getoption("collectonly"):
            return
        from gradkit.integrations import _pytest_summary

        try:
            _pytest_summary.write(self.records, self.path)
        except OSError as error:
            # Tests have passed or failed on their own account; a report that cannot be kept must not pass silently.
            self.problem = f"gradkit: the report {self.path} cannot be written: {error.strerror or error}"
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was seen, when there is anything to say."""
        if not (self.records or self.config.getoption("gradkit") or self.path or self.problem):
            return
        if self.config.getoption("collectonly"):
            return
        from gradkit.integrations import _pytest_summary

        always = bool(self.config.getoption("gradkit"))
        lines = _pytest_summary.lines(self.records, always=always)
        if self.problem:
            lines.append(self.problem)
        elif self.path is not None:
            lines.append(f"gradkit: report written to {self.path}")
        if lines:
            terminalreporter.section("gradkit", sep="=")
            for line in lines:
                terminalreporter.write_line(line)

"""The pytest plugin: options, marker and fixtures; the work is in modules that are imported when a test asks for it.

pytest imports this file in every session of everyone who has gradkit installed, so it imports neither torch nor a
framework, and nothing of gradkit but names. It has no `assert` for pytest to rewrite, and says so with the word pytest
looks for: PYTEST_DONT_REWRITE. Without it a test of a plugin that uses this one warns that it was imported before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradkit.integrations._pytest_regression import TrajectoryRegression
    from gradkit.integrations._pytest_watch import ItemState, Watch

_MARKER = (
    "gradkit(fail_on, select, ignore, accumulate): watch the gradients of this test; it fails on findings at or above "
    "`fail_on` (error, warning, note, never), of the rules in `select` less those in `ignore`; `accumulate` declares "
    "the micro-batches per optimizer step."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and ini settings."""
    group = parser.getgroup("gradkit", "gradients (gradkit)")
    group.addoption("--gradkit", action="store_true", help="Watch the gradients of every test.")
    group.addoption(
        "--gradkit-fail-on",
        metavar="SEVERITY",
        help="Least severity of a finding that fails its test: error (default), warning, note or never.",
    )
    group.addoption(
        "--gradkit-report", metavar="FILE", help="Write the findings of all watched tests as one JSON file."
    )
    group.addoption(
        "--gradkit-update",
        action="store_true",
        help="Accept what trajectory_regression sees: write the golden files of runs that left them.",
    )
    parser.addini("gradkit_fail_on", "Least severity that fails a watched test: error, warning, note or never.")
    parser.addini("gradkit_select", "Rule codes or prefixes to run, separated by spaces; all when empty.", type="args")
    parser.addini("gradkit_ignore", "Rule codes or prefixes to leave out, separated by spaces.", type="args")
    parser.addini("gradkit_accumulate", "Declared micro-batches per optimizer step.")
    parser.addini("gradkit_goldens", "Folder beside a test file for its golden trajectories; goldens when empty.")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, refuse unusable settings, and collect what the tests report."""
    from gradkit.integrations import _pytest_session

    config.addinivalue_line("markers", _MARKER)
    _pytest_session.start(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse markers with unknown arguments before the first test runs."""
    from gradkit.integrations._pytest_session import check_markers

    check_markers(config, items)


# --- the life of one test -----------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin to watch before the fixtures of a test that asks for it are made."""
    _forget(item)  # a plugin that runs a failed test again sets it up again
    wanted = (
        item.config.getoption("gradkit")
        or item.get_closest_marker("gradkit") is not None
        or "gradkit_watch" in getattr(item, "fixturenames", ())
    )
    if wanted:
        _state(item).watch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Stop watching when the test's body is over and fail it when its findings ask for that."""
    try:
        result = yield
    except BaseException:  # pytest's own skip, exit and Ctrl-C too: nothing may stay attached; the outcome goes on
        _finish(item)
        raise
    text = _finish(item)
    if text:
        pytest.fail(text, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hand what was seen to the report of the test, which xdist carries to the process that prints."""
    report = yield
    if call.when == "setup" and call.excinfo is not None:
        _finish(item)
    state = _known_state(item)
    if state is not None and (call.when != "setup" or call.excinfo is not None):
        state.deliver(report)
    return report


def _state(item: pytest.Item) -> ItemState:
    from gradkit.integrations import _pytest_watch

    return _pytest_watch.state_of(item)


def _forget(item: pytest.Item) -> None:
    from gradkit.integrations._pytest_watch import STATE

    if STATE in item.stash:
        del item.stash[STATE]


def _known_state(item: pytest.Item) -> ItemState | None:
    """The state of a test that has one; a test that does not use gradkit never gets one."""
    from gradkit.integrations._pytest_watch import STATE

    return item.stash.get(STATE, None)


def _finish(item: pytest.Item) -> str:
    state = _known_state(item)
    return state.finish() if state is not None else ""


# --- fixtures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def gradkit_watch(request: pytest.FixtureRequest) -> Watch:
    """Watches the gradients of the whole test, which fails on findings; `.findings`, `.expect("GK101")`."""
    return _state(request.node).watch()


@pytest.fixture
def check_gradients(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`gradkit.check.gradients` that fails the test unless the check passes, and returns its result."""
    return _state(request.node).checker("gradients")


@pytest.fixture
def check_module(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`gradkit.check.module` that fails the test unless the check passes, and returns its result."""
    return _state(request.node).checker("module")


@pytest.fixture
def check_accumulation(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`gradkit.check.accumulation` that fails the test unless the check passes, and returns its result."""
    return _state(request.node).checker("accumulation")


@pytest.fixture
def check_inference(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`gradkit.check.inference` that fails the test unless the check passes, and returns its result."""
    return _state(request.node).checker("inference")


@pytest.fixture
def trajectory_regression(request: pytest.FixtureRequest) -> TrajectoryRegression:
    """Pins a training run to a golden file beside the test: `.record(model, optimizer)`, then `.check(recording)`."""
    from gradkit.integrations._pytest_regression import TrajectoryRegression

    return TrajectoryRegression(request)

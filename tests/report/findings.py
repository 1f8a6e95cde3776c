"""Findings for the tests of reports: a plain one, and any that a hostile program could cause."""

from hypothesis import strategies as st

from gradkit.findings import Finding, Severity
from gradkit.records import Location, RunInfo
from gradkit.report.report import Report

HOSTILE = (
    "\x1b[31m\x07\r\x00",
    "\u202eabc\u202c",
    "אבג",
    "\ud800",
    "x" * 10_000,
    "[bold]not markup[/bold]",
    "a\nb",
    "</script>",
)


def finding(**values):
    first = {
        "rule": "GK101",
        "name": "stale-gradients",
        "severity": Severity.ERROR,
        "message": "Step 1 of SGD consumed 1 of 2 gradient(s).",
        "first_step": 1,
        "last_step": 1,
        "optimizer": "SGD",
        "remedy": "Clear them.",
    }
    return Finding(**{**first, **values})


def texts():
    """Any text, lone surrogates and control characters included, and some that were chosen to hurt."""
    return st.text(st.characters(), max_size=30) | st.sampled_from(HOSTILE)


def locations():
    return st.builds(Location, texts(), st.integers(1, 10**6), texts(), st.none() | texts())


def evidence():
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts()
    values = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3)
    )
    return st.dictionaries(texts(), values, max_size=3)


@st.composite
def findings(draw):
    first = draw(st.none() | st.integers(0, 10**9))
    return finding(
        rule=draw(st.sampled_from(["GK101", "GK901", "GK999"])),
        severity=draw(st.sampled_from(Severity)),
        message=draw(texts().filter(bool)),
        cost=draw(texts()),
        remedy=draw(texts()),
        location=draw(st.none() | locations()),
        labels=tuple(draw(st.lists(st.tuples(locations(), texts()), max_size=2))),
        first_step=first,
        last_step=first,
        count=draw(st.integers(1, 10**9)),
        parameters=tuple(draw(st.lists(texts(), max_size=6))),
        modules=tuple(draw(st.lists(texts(), max_size=2))),
        optimizer=draw(st.none() | texts()),
        ranks=tuple(draw(st.lists(st.integers(0, 99), max_size=3))),
        evidence=draw(evidence()),
    )


@st.composite
def reports(draw):
    counts = st.integers(0, 10**9)
    seconds = st.floats(0, 1e9)
    return Report(
        findings=tuple(draw(st.lists(findings(), max_size=3))),
        suppressed=tuple(draw(st.lists(findings(), max_size=1))),
        rules=(("GK101", "stale-gradients"),),
        dropped=draw(counts),
        ranks=draw(st.integers(1, 64)),
        info=RunInfo(steps=draw(counts), backwards=draw(counts), seconds=draw(seconds), overhead_seconds=draw(seconds)),
    )

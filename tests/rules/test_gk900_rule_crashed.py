"""GK900 on records built by hand: one note per contained exception, with everything needed to report it."""

import pytest

from gradkit.findings import Severity
from gradkit.records import Crash
from gradkit.rules.gk900_rule_crashed import RuleCrashed


def judge(**values):
    record = {"where": "Rule GK101 stale-gradients", "error": "KeyError: 'a'", "traceback": "Traceback\n  File ..."}
    return list(RuleCrashed().check([Crash(**{**record, **values})]))


def test_says_everything_about_the_exception():
    (finding,) = judge()
    assert finding.message == "Rule GK101 stale-gradients raised KeyError: 'a'; training went on without it."
    assert finding.evidence == {
        "where": "Rule GK101 stale-gradients",
        "error": "KeyError: 'a'",
        "traceback": "Traceback\n  File ...",
    }
    assert finding.severity is Severity.NOTE
    assert (finding.location, finding.first_step, finding.optimizer) == (None, None, None)
    assert finding.cost == "Findings of these steps may be missing."
    assert finding.remedy == "Report it with the traceback; until then deselect the rule with `ignore`."


@pytest.mark.parametrize("error", ["ValueError: ", "", "ValueError: nan", "E: " + "x" * 10_000, "E: {0} %s \x1b[31m"])
def test_whatever_the_exception_says_is_kept_with_its_control_characters_shown(error):
    (finding,) = judge(error=error)
    shown = error.replace("\x1b", "\u241b")
    assert finding.evidence["error"] == shown
    assert shown in finding.message


def test_an_empty_traceback_is_still_a_note():
    (finding,) = judge(traceback="")
    assert finding.evidence["traceback"] == ""


def test_only_the_last_record_is_judged():
    first, last = (Crash(where=where, error="E: x", traceback="") for where in ("first", "last"))
    (finding,) = RuleCrashed().check([first, last])
    assert finding.evidence["where"] == "last"

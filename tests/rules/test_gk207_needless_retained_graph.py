"""GK207 on records built by hand: both sides of each threshold, and what the finding says."""

import pytest

from gradkit.findings import Severity
from gradkit.records import Location, Retention
from gradkit.rules.gk207_needless_retained_graph import NeedlessRetainedGraph

LINE = Location("train.py", 12, "train")


def judge(rule=None, **values):
    record = Retention(**{"step": 5, "option": "retain_graph", "nodes": 7, "location": LINE, **values})
    return list((rule or NeedlessRetainedGraph()).check([record]))


@pytest.mark.parametrize(("count", "findings"), [(0, 0), (4, 0), (5, 1), (6, 1)])
def test_fires_at_five(count, findings):
    assert len(judge(count=count)) == findings


@pytest.mark.parametrize(("count", "findings"), [(5, 0), (99, 0), (100, 1)])
def test_waits_for_a_conditional_second_use(count, findings):
    assert len(judge(count=count, other_calls=True)) == findings


def test_both_thresholds_are_settings():
    rule = NeedlessRetainedGraph(repeats=2, repeats_conditional=3)
    assert len(judge(rule, count=2)) == len(judge(rule, count=3, other_calls=True)) == 1
    assert not judge(rule, count=1)
    assert not judge(rule, count=2, other_calls=True)


def test_names_the_option_and_the_line():
    (finding,) = judge(count=5, option="create_graph")
    assert (finding.severity, finding.location) == (Severity.WARNING, LINE)
    assert finding.message == (
        "5 backward calls in a row kept their graph (create_graph=True, 7 nodes) and nothing went through it again."
    )

"""GK207 on records built by hand: both sides of each threshold, and what the finding says."""

import pytest

from gradkit.findings import Severity
from gradkit.records import Location, Retention
from gradkit.rules.gk207_needless_retained_graph import NeedlessRetainedGraph

LINE = Location("train.py", 12, "train")


def judge(rule=None, **values):
    record = Retention(**{"step": 5, "option": "retain_graph", "nodes": 7, "location": LINE, **values})
    return list((rule or NeedlessRetainedGraph()).check([record]))


@pytest.mark.parametrize(("count", "findings"), [(0, 0), (19, 0), (20, 1), (21, 1)])
def test_fires_at_twenty(count, findings):
    assert len(judge(count=count)) == findings


def test_the_threshold_is_a_setting():
    rule = NeedlessRetainedGraph(repeats=2)
    assert len(judge(rule, count=2)) == 1
    assert not judge(rule, count=1)


def test_names_the_option_and_the_line():
    (finding,) = judge(count=20, option="create_graph")
    assert (finding.severity, finding.location) == (Severity.WARNING, LINE)
    assert finding.message == (
        "20 backward calls in a row kept their graph (create_graph=True, 7 nodes) and nothing went through it again."
    )

"""GK202 on records built by hand: both sides of each threshold, and what the finding says."""

import pytest

from gradkit.findings import Severity
from gradkit.records import GraphCensus, Location
from gradkit.rules.gk202_graph_retained_across_steps import GraphRetainedAcrossSteps

LINE = Location("train.py", 12, "train")


def judge(rule=None, **values):
    return list((rule or GraphRetainedAcrossSteps()).check([GraphCensus(**{"step": 11, "alive": 10, **values})]))


@pytest.mark.parametrize(("growths", "count"), [(0, 0), (9, 0), (10, 1), (11, 1)])
def test_fires_at_ten_growths(growths, count):
    assert len(judge(growths=growths)) == count


@pytest.mark.parametrize(("growths", "count"), [(10, 0), (49, 0), (50, 1)])
def test_retained_graphs_that_are_gone_through_again_need_fifty(growths, count):
    assert len(judge(growths=growths, retained=True, revisited=True)) == count


def test_retained_graphs_that_nothing_goes_through_need_ten():
    (finding,) = judge(growths=10, retained=True)
    assert finding.evidence["retain_graph"]
    assert finding.cost == "Memory grows with every step."


def test_totals_of_all_losses_need_ten():
    assert len(judge(growths=10, retained=True, revisited=True, total=True)) == 1


def test_both_thresholds_are_settings():
    rule = GraphRetainedAcrossSteps(growths=3, growths_revisited=5)
    assert len(judge(rule, growths=3)) == len(judge(rule, growths=5, retained=True, revisited=True)) == 1
    assert not judge(rule, growths=2)
    assert not judge(rule, growths=4, retained=True, revisited=True)


def test_says_what_is_kept_where_it_was_computed_and_by_what():
    (finding,) = judge(
        growths=10, operation="MeanBackward0", location=LINE, holder="losses[9]", container="losses", length=11
    )
    assert finding.severity is Severity.WARNING
    assert finding.location == LINE
    assert finding.message == (
        "The graphs of 10 earlier steps were still alive at step 11, after 10 growths in a row: `losses` (11 entries)"
        " held the result of MeanBackward."
    )
    assert finding.evidence["holder"] == "losses[9]"


def test_falls_back_to_the_line_of_the_backward():
    (finding,) = judge(growths=10, backward_line=LINE)
    assert finding.location == LINE
    assert "something held a tensor with its graph" in finding.message

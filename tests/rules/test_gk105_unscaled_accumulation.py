"""GK105 on records built by hand: both sides of each threshold, its two severities, and what it says."""

import pytest

from gradkit.findings import Severity
from gradkit.records import Accumulation, Location
from gradkit.rules.gk105_unscaled_accumulation import UnscaledAccumulation

LINE = Location("train.py", 12, "train")


def judge(rule=None, **values):
    record = {
        "optimizer": "SGD",
        "step": 3,
        "micro_batches": 4,
        "windows": 3,
        "divided": False,
        "reduction": "MseLossBackward0",
        "backward_line": LINE,
    }
    return list((rule or UnscaledAccumulation()).check([Accumulation(**{**record, **values})]))


@pytest.mark.parametrize(("windows", "findings"), [(1, 0), (2, 0), (3, 1), (4, 1)])
def test_fires_after_three_windows(windows, findings):
    assert len(judge(windows=windows)) == findings
    assert len(judge(UnscaledAccumulation(windows=4), windows=windows)) == (windows == 4)


@pytest.mark.parametrize(("count", "findings"), [(1, 0), (2, 1)])
def test_one_micro_batch_is_no_accumulation(count, findings):
    assert len(judge(micro_batches=count)) == findings


@pytest.mark.parametrize(("declared", "severity"), [(True, Severity.WARNING), (False, Severity.NOTE)])
def test_a_declaration_makes_it_a_warning(declared, severity):
    (finding,) = judge(declared=declared)
    assert (finding.severity, finding.location) == (severity, LINE)


@pytest.mark.parametrize(
    ("items", "findings"),
    [
        (((20.0, 20.0), (20.0, 20.0), (20.0, 20.0)), 0),
        (((20.0, 21.0), (20.0, 21.0), (20.0, 21.0)), 0),
        (((20.0, 22.0), (20.0, 22.0), (20.0, 22.0)), 1),
        (((20.0, 30.0), (20.0, 20.0), (20.0, 30.0)), 0),  # one window was even: the tail of a data set, say
        (((0.0, 30.0), (10.0, 30.0), (10.0, 30.0)), 0),  # the mean over nothing is not a number
        ((), 0),
    ],
)
def test_divided_losses_need_uneven_items_in_every_window(items, findings):
    assert len(judge(divided=True, items=items, micro_batches=2)) == findings


def test_the_spread_is_a_setting():
    items = ((20.0, 22.0),) * 3
    assert not judge(UnscaledAccumulation(spread=0.2), divided=True, items=items)


def test_says_what_was_added_and_what_it_acts_like():
    (finding,) = judge()
    assert finding.message == "Each window of SGD adds the gradients of 4 mean losses that are divided by nothing."
    assert "a learning rate 4 times as large" in finding.cost
    (finding,) = judge(divided=True, items=((10.0, 25.0, 20.0, 20.0),) * 3)
    assert "were divided by 4, although they are means over 10 to 25 items." in finding.message
    assert "up to 2.5 times" in finding.cost
    assert (finding.evidence["items_least"], finding.evidence["items_most"]) == (10.0, 25.0)

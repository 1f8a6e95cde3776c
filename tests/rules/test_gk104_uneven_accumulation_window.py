"""GK104 on records built by hand: both sides of each threshold, and what the finding says."""

import pytest

from gradkit.findings import Severity
from gradkit.records import Location, Pass
from gradkit.rules.gk104_uneven_accumulation_window import UnevenAccumulationWindow

LINE = Location("train.py", 12, "train")


def judge(rule=None, **values):
    record = {
        "optimizer": "SGD",
        "step": 4,
        "batches": 10,
        "window": 4,
        "full_windows": 2,
        "left_over": 2,
        "carried": True,
        "first_window": 6,
        "borders": 2,
        "location": LINE,
    }
    return list((rule or UnevenAccumulationWindow()).check([Pass(**{**record, **values})]))


@pytest.mark.parametrize(("borders", "findings"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_fires_at_the_second_border(borders, findings):
    assert len(judge(borders=borders)) == findings


@pytest.mark.parametrize(("full", "findings"), [(0, 0), (1, 0), (2, 1)])
def test_needs_two_full_windows(full, findings):
    assert len(judge(full_windows=full)) == findings


@pytest.mark.parametrize(("left", "findings"), [(0, 0), (1, 1), (3, 1), (4, 0)])
def test_what_is_left_over_is_less_than_a_window(left, findings):
    assert len(judge(left_over=left)) == findings


def test_both_thresholds_are_settings():
    rule = UnevenAccumulationWindow(borders=3, full_windows=4)
    assert not judge(rule, borders=3, full_windows=3)
    assert judge(rule, borders=3, full_windows=4)


def test_says_where_they_went():
    (finding,) = judge()
    assert (finding.severity, finding.location) == (Severity.WARNING, LINE)
    assert finding.message == (
        "2 passes in a row ended with 2 micro-batch(es) left over from windows of 4; they went into the first window of"
        " the next pass, which held 6."
    )
    (finding,) = judge(carried=False, first_window=None)
    assert finding.message.endswith("they were thrown away.")
    assert finding.cost == "2 of 10 batches of each pass were computed for nothing."

"""GK101 on records built by hand: what counts as a mixture, who may keep a gradient, and what the finding says."""

import math

import pytest

from gradkit.findings import Severity
from gradkit.records import DeepValues, Location, Statement, Window
from gradkit.rules.gk101_stale_gradients import StaleGradients

STEP, BACKWARD, CLEAR = (Location("train.py", line, "train") for line in (12, 11, 4))


def judge(rule=None, **values):
    record = {"optimizer": "SGD", "step": 3, "parameter_count": 4, "backwards": 1, "step_line": STEP}
    return list((rule or StaleGradients()).check([Window(**{**record, **values})]))


@pytest.mark.parametrize(("windows", "findings"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_fires_where_two_windows_are_mixed(windows, findings):
    assert len(judge(windows_mixed={"weight": windows})) == findings


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"windows_mixed": {}},
        {"reused": True, "trained_before": True},
        {"cleared": True, "consecutive_cleared": 9, "cleared_finite": True},
        {"empty": True, "consecutive_empty": 9},
        {"backwards": 64, "backwards_anywhere": 64},
    ],
    ids=["nothing known", "cleared in time", "nothing new", "wiped", "empty", "long accumulation"],
)
def test_stays_silent_where_nothing_old_was_added_to(record):
    assert judge(**record) == []


def test_only_the_last_window_is_judged():
    bad = Window(optimizer="SGD", step=3, windows_mixed={"weight": 2})
    good = Window(optimizer="SGD", step=4)
    assert list(StaleGradients().check([bad, good])) == []
    assert len(list(StaleGradients().check([good, bad]))) == 1


def test_says_everything_about_the_smallest_bad_record():
    (finding,) = judge(windows_mixed={"weight": 2}, parameter_count=1, backward_line=BACKWARD)
    assert finding.message == (
        "Step 3 of SGD consumed 1 of 1 gradient(s) that still held what an earlier step had consumed: 2 windows mixed."
    )
    assert finding.severity is Severity.ERROR
    assert (finding.first_step, finding.last_step, finding.optimizer) == (3, 3, "SGD")
    assert (finding.location, finding.parameters) == (STEP, ("weight",))
    assert finding.labels == ((BACKWARD, "new gradients were added to old ones here"),)
    assert finding.evidence == {
        "windows_mixed": 2,
        "parameters_mixed": 1,
        "parameters_held": 1,
        "share": 1.0,
        "backwards": 1,
    }
    assert finding.cost == (
        "The update followed the sum of several windows; with plain gradient descent that acts like momentum 1."
    )
    assert finding.remedy == "Clear the gradients once per optimizer step, before the first backward of its window."


def test_a_part_of_the_parameters_is_named_in_order_with_its_share():
    (finding,) = judge(windows_mixed={"b": 2, "a": 7, "c": 1})
    assert finding.parameters == ("a", "b")
    assert finding.message == (
        "Step 3 of SGD consumed 2 of 4 gradient(s) that still held what an earlier step had consumed: 7 windows mixed."
    )
    assert (finding.evidence["share"], finding.evidence["windows_mixed"]) == (0.5, 7)
    assert finding.cost == (
        "Part of the parameters moved along the sum of several windows, the others along the last one."
    )


def test_an_unknown_number_of_parameters_divides_by_nothing():
    (finding,) = judge(windows_mixed={"a": 2}, parameter_count=0)
    assert finding.evidence["share"] == 1.0


def test_allowed_parameters_may_keep_a_gradient_and_hide_no_other():
    rule = StaleGradients(allow=("running.*", "memory"))
    assert judge(rule, windows_mixed={"running.mean": 5, "memory": 2}) == []
    (finding,) = judge(rule, windows_mixed={"running.mean": 5, "weight": 2, "Memory": 3})
    assert finding.parameters == ("Memory", "weight")
    assert finding.evidence["windows_mixed"] == 3


def test_statements_that_cleared_something_else_are_shown():
    statement = Statement(CLEAR, "other.zero_grad()", "cleared another model")
    (finding,) = judge(windows_mixed={"a": 2}, backward_line=BACKWARD, clearing=(statement,))
    assert finding.evidence["clearing"] == ["line 4: other.zero_grad(): cleared another model"]
    assert finding.labels[1:] == ((CLEAR, "cleared another model"),)


def deep(**values):
    numbers = {
        "grad_norm_l2": 3.0,
        "fresh_norm_l2": 1.0,
        "stale_norm_l2": 2.0,
        "cosine": 0.5,
        "effective_learning_rate": 0.1,
        "windows_mixed": 2,
    }
    return DeepValues(**{**numbers, **values})


def test_deep_mode_adds_how_much_was_stale():
    (finding,) = judge(windows_mixed={"a": 2}, deep=deep())
    assert (finding.evidence["stale_over_fresh"], finding.evidence["cosine"]) == (2.0, 0.5)


def test_a_fresh_part_of_zero_gives_no_ratio():
    (finding,) = judge(windows_mixed={"a": 2}, deep=deep(fresh_norm_l2=0.0, cosine=None))
    assert (finding.evidence["stale_over_fresh"], finding.evidence["cosine"]) == (None, None)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_non_finite_norms_neither_make_nor_hide_a_finding(number):
    values = deep(fresh_norm_l2=number, stale_norm_l2=number, cosine=number)
    assert judge(deep=values) == []
    (finding,) = judge(windows_mixed={"a": 2}, deep=values)
    assert math.isnan(finding.evidence["stale_over_fresh"])

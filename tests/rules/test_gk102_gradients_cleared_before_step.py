"""GK102 on records built by hand: when a cleared window is a mistake, both sides of its threshold, and the words."""

import pytest

from gradkit.findings import Severity
from gradkit.records import Location, ParameterInfo, Statement, Window
from gradkit.rules.gk102_gradients_cleared_before_step import GradientsClearedBeforeStep

STEP, BACKWARD, CLEAR = (Location("train.py", line, "train") for line in (12, 10, 11))
WIPE = Statement(CLEAR, "optimizer.zero_grad()", "cleared the gradients")


def judge(rule=None, **values):
    record = {
        "optimizer": "SGD",
        "step": 0,
        "parameter_count": 2,
        "backwards": 1,
        "cleared_deposits": 1,
        "cleared": True,
        "consecutive_cleared": 1,
        "cleared_finite": True,
        "step_line": STEP,
    }
    return list((rule or GradientsClearedBeforeStep()).check([Window(**{**record, **values})]))


def test_says_everything_about_the_smallest_bad_record():
    parameters = (ParameterInfo("weight", (1, 2)), ParameterInfo("bias", (1,)))
    (finding,) = judge(backward_line=BACKWARD, clearing=(WIPE,), parameters=parameters)
    assert finding.message == (
        "Step 0 of SGD ran without the gradients of 1 of 1 backward call(s): they were cleared between the backward and"
        " the step."
    )
    assert (finding.severity, finding.location, finding.optimizer) == (Severity.ERROR, STEP, "SGD")
    assert (finding.first_step, finding.parameters) == (0, ("weight", "bias"))
    assert finding.labels == ((BACKWARD, "gradients were deposited here"), (CLEAR, "cleared the gradients"))
    assert finding.evidence == {
        "backwards": 1,
        "backwards_lost": 1,
        "consecutive_windows": 1,
        "parameters_held": 2,
        "clearing": ["line 11: optimizer.zero_grad(): cleared the gradients"],
    }
    assert finding.cost == "The work of those backward calls was lost; the weights did not follow the loss."
    assert finding.remedy == "Move the clearing before the backward or after the step."


def test_where_a_framework_steps_the_clearing_itself_is_named():
    step = Location("train.py", 30, "training_step", "lightning")
    (finding,) = judge(step_line=step, backward_line=step, clearing=(WIPE,))
    assert finding.location == CLEAR
    assert finding.labels == ((step, "gradients were deposited here"),)
    assert judge(step_line=step)[0].location == step


def test_an_empty_record_is_silent():
    assert list(GradientsClearedBeforeStep().check([Window(optimizer="SGD", step=0)])) == []


@pytest.mark.parametrize("step", [0, 1, 4])
def test_an_optimizer_that_never_trained_is_reported_at_once(step):
    assert len(judge(step=step, consecutive_cleared=step + 1)) == 1


@pytest.mark.parametrize(("consecutive", "findings"), [(1, 0), (2, 1), (3, 1)])
def test_after_normal_training_two_windows_in_a_row_are_needed(consecutive, findings):
    assert len(judge(step=50, consecutive_cleared=consecutive)) == findings


def test_the_number_of_windows_is_a_setting():
    rule = GradientsClearedBeforeStep(repeats=4)
    assert judge(rule, step=50, consecutive_cleared=3) == []
    assert len(judge(rule, step=50, consecutive_cleared=4)) == 1
    assert len(judge(GradientsClearedBeforeStep(repeats=1), step=50)) == 1


@pytest.mark.parametrize("finite", [False, None])
def test_gradients_that_were_not_finite_or_not_measured_may_be_thrown_away(finite):
    assert judge(step=50, consecutive_cleared=9, cleared_finite=finite) == []


@pytest.mark.parametrize(("conditional", "findings"), [(True, 0), (False, 1), (None, 1)])
def test_a_clearing_under_a_condition_of_its_own_is_a_skipped_update(conditional, findings):
    assert len(judge(clearing_is_conditional=conditional)) == findings


@pytest.mark.parametrize(
    ("accumulate", "backwards", "lost", "findings"),
    [
        (4, 4, 3, 1),
        (4, 5, 1, 1),
        (4, 3, 2, 0),  # a shorter window, as at the end of a pass
        (4, 4, 0, 0),
        (1, 1, 1, 0),  # no accumulation: a window that kept its last gradient lost nothing it needed
        (None, 4, 3, 0),  # nobody declared how many belong to a window: computed for logging, perhaps
    ],
)
def test_a_declared_window_that_lost_some_of_its_backwards_is_reported(accumulate, backwards, lost, findings):
    found = judge(
        cleared=False,
        consecutive_cleared=0,
        cleared_finite=None,
        accumulate=accumulate,
        backwards=backwards,
        cleared_deposits=lost,
    )
    assert len(found) == findings
    for finding in found:
        assert f"without the gradients of {lost} of {backwards} backward call(s)" in finding.message
        assert (finding.evidence["backwards_lost"], finding.evidence["backwards"]) == (lost, backwards)


def test_all_backwards_of_a_long_window_are_counted_as_lost():
    (finding,) = judge(backwards=8, cleared_deposits=8)
    assert "without the gradients of 8 of 8 backward call(s)" in finding.message


def test_only_the_last_window_is_judged():
    bad = Window(optimizer="SGD", step=0, cleared=True, consecutive_cleared=1, cleared_finite=True)
    assert list(GradientsClearedBeforeStep().check([bad, Window(optimizer="SGD", step=1)])) == []

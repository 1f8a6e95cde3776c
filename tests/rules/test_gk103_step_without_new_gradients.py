"""GK103 on records built by hand: a gradient used twice, steps on nothing, and what excuses either."""

import pytest

from gradkit.findings import Severity
from gradkit.records import Location, ParameterInfo, Window
from gradkit.rules.gk103_step_without_new_gradients import StepWithoutNewGradients, _ordinal

STEP = Location("train.py", 12, "train")


def judge(rule=None, **values):
    record = {"optimizer": "SGD", "step": 5, "parameter_count": 2, "step_line": STEP}
    return list((rule or StepWithoutNewGradients()).check([Window(**{**record, **values})]))


def empty(rule=None, **values):
    return judge(rule, **{"empty": True, "consecutive_empty": 2, "trained_before": True, **values})


def test_an_ordinary_window_is_silent():
    assert judge(backwards=1, backwards_anywhere=1, trained_before=True) == []
    assert list(StepWithoutNewGradients().check([Window(optimizer="SGD", step=0)])) == []


def test_says_everything_about_a_gradient_used_twice():
    parameters = (ParameterInfo("weight", (1, 2)), ParameterInfo("bias", (1,)))
    (finding,) = judge(reused=True, parameters=parameters, backwards_anywhere=3)
    assert finding.message == (
        "Step 5 of SGD consumed the same gradients as its last step: nothing had been added to them in between."
    )
    assert (finding.severity, finding.location, finding.optimizer) == (Severity.ERROR, STEP, "SGD")
    assert (finding.first_step, finding.parameters) == (5, ("weight", "bias"))
    assert finding.evidence == {"parameters_held": 2, "backwards_elsewhere": 3}
    assert finding.cost == "One gradient was applied more than once."
    assert finding.remedy == "Call `backward()` once before each `step()`, and step each optimizer once per window."


def test_says_everything_about_steps_on_nothing():
    (finding,) = empty()
    assert finding.message == (
        "Step 5 of SGD was the 2nd in a row with no gradient on any of its 2 parameter(s); no backward ran in between."
    )
    assert (finding.severity, finding.location, finding.optimizer) == (Severity.WARNING, STEP, "SGD")
    assert finding.evidence == {"parameters_held": 2, "consecutive_empty_steps": 2}
    assert finding.cost == "These steps did nothing."


@pytest.mark.parametrize(("steps", "findings"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_one_empty_step_flushes_an_accumulation_two_are_reported(steps, findings):
    assert len(empty(consecutive_empty=steps)) == findings


def test_batches_left_out_in_a_framework_are_not_reported_once_training_goes_on():
    line = Location("train.py", 12, "training_step", via="lightning")
    assert empty(step_line=line) == []
    assert len(empty(step_line=line, trained_before=False, forward_recorded=True)) == 1  # it never returned a loss
    assert len(empty(step_line=None)) == 1


def test_the_number_of_empty_steps_is_a_setting():
    rule = StepWithoutNewGradients(empty_steps=5)
    assert empty(rule, consecutive_empty=4) == []
    assert len(empty(rule, consecutive_empty=5)) == 1


def test_a_reused_gradient_is_reported_at_once_whatever_the_setting():
    assert len(judge(StepWithoutNewGradients(empty_steps=99), reused=True)) == 1


def test_a_loss_back_propagated_elsewhere_excuses_an_idle_head_but_no_reused_gradient():
    assert empty(backwards_anywhere=1) == []
    assert len(judge(reused=True, backwards_anywhere=1)) == 1


@pytest.mark.parametrize(
    ("trained", "recorded", "findings"),
    [(True, None, 1), (True, False, 1), (False, True, 1), (False, False, 0), (False, None, 0)],
)
def test_empty_steps_need_a_sign_that_training_was_meant(trained, recorded, findings):
    assert len(empty(trained_before=trained, forward_recorded=recorded)) == findings


@pytest.mark.parametrize("state", [{"reused": True}, {"empty": True, "consecutive_empty": 9, "trained_before": True}])
@pytest.mark.parametrize("other", [{"windows_mixed": {"weight": 2}}, {"cleared": True}])
def test_leaves_a_mixture_to_gk101_and_a_wipe_to_gk102(state, other):
    assert len(judge(**state)) == 1
    assert judge(**state, **other) == []


def test_a_window_both_reused_and_empty_gives_one_finding():
    (finding,) = empty(reused=True)
    assert finding.severity is Severity.ERROR


def test_only_the_last_window_is_judged():
    bad = Window(optimizer="SGD", step=1, reused=True)
    assert list(StepWithoutNewGradients().check([bad, Window(optimizer="SGD", step=2)])) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"), (20, "20th"),
     (21, "21st"), (22, "22nd"), (101, "101st"), (111, "111th"), (112, "112th"), (1003, "1003rd")],
)  # fmt: skip
def test_ordinals_are_english(number, words):
    assert _ordinal(number) == words

"""GK204 on records built by hand: both sides of the threshold, and what the finding says."""

import pytest

from gradkit.findings import Severity
from gradkit.records import Location, ModeStep
from gradkit.rules.gk204_training_in_eval_mode import TrainingInEvalMode

STEP, EVAL = Location("train.py", 12, "train"), Location("train.py", 30, "validate")


def judge(rule=None, **values):
    record = {"optimizer": "SGD", "step": 7, "count": 2, "model": "Net", "layers": {"Dropout": 2}, "step_line": STEP}
    return list((rule or TrainingInEvalMode()).check([ModeStep(**{**record, **values})]))


@pytest.mark.parametrize(("count", "findings"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_fires_at_two_steps(count, findings):
    assert len(judge(count=count)) == findings


def test_the_number_of_steps_is_a_setting():
    assert not judge(TrainingInEvalMode(steps=4), count=3)
    assert judge(TrainingInEvalMode(steps=4), count=4)


def test_names_the_line_that_left_eval_mode_on():
    (finding,) = judge(eval_line=EVAL, trained_before=True)
    assert (finding.severity, finding.location, finding.labels) == (
        Severity.ERROR,
        EVAL,
        ((STEP, "this stepped in eval mode"),),
    )
    assert finding.message == (
        "SGD made 2 steps in a row, after steps in train mode, on gradients of Net in eval mode: Dropout x2 were"
        " switched off."
    )


def test_names_the_step_where_the_change_of_mode_was_not_seen():
    (finding,) = judge()
    assert finding.location == STEP
    assert "from the first step that was seen" in finding.message

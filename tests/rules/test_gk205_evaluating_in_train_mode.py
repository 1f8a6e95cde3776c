"""GK205 on records built by hand: both sides of the threshold, and what the finding says."""

import pytest

from gradkit.findings import Severity
from gradkit.records import EvaluationPass, Location
from gradkit.rules.gk205_evaluating_in_train_mode import EvaluatingInTrainMode

LINE = Location("train.py", 30, "validate")


def judge(rule=None, **values):
    record = {
        "step": 8,
        "model": "Net",
        "training": True,
        "forwards": 2,
        "recorded": 0,
        "active_layers": {"Dropout": 2},
        "location": LINE,
    }
    return list((rule or EvaluatingInTrainMode()).check([EvaluationPass(**{**record, **values})]))


@pytest.mark.parametrize(("forwards", "findings"), [(0, 0), (1, 0), (2, 1), (9, 1)])
def test_fires_at_two_forwards(forwards, findings):
    assert len(judge(forwards=forwards)) == findings


@pytest.mark.parametrize("values", [{"training": False}, {"recorded": 2}, {"active_layers": {}}])
def test_stays_silent_in_eval_mode_with_graphs_or_without_such_layers(values):
    assert not judge(**values)


def test_the_number_of_forwards_is_a_setting():
    assert not judge(EvaluatingInTrainMode(forwards=3))


@pytest.mark.parametrize(("layers", "cost"), [({"Dropout": 1}, "noise"), ({"BatchNorm1d": 1}, "running statistics")])
def test_says_which_layers_were_active_and_what_that_costs(layers, cost):
    (finding,) = judge(active_layers=layers)
    assert (finding.severity, finding.location) == (Severity.WARNING, LINE)
    assert finding.message == (
        f"2 forwards of Net without gradients ran in train mode: {next(iter(layers))} were active."
    )
    assert cost in finding.cost


def test_dropout_that_no_mode_governs_is_reported_at_its_own_line():
    own = Location("net.py", 7, "forward")
    (finding,) = judge(training=False, active_layers={}, ungoverned={"dropout": 1}, dropout_line=own)
    assert finding.location == own
    assert finding.message == ("2 forwards of Net without gradients ran in eval mode and yet dropped out: dropout.")
    assert finding.labels == ((LINE, "the evaluation ran here"),)


def test_in_train_mode_the_evaluation_is_the_line_to_mend():
    own = Location("net.py", 7, "forward")
    (finding,) = judge(active_layers={}, ungoverned={"dropout": 1}, dropout_line=own)
    assert finding.location == LINE

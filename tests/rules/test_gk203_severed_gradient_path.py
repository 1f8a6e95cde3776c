"""GK203 on records built by hand: both sides of the threshold, and what the finding says."""

import pytest

from gradkit.findings import Severity
from gradkit.records import CutPath, Location
from gradkit.rules.gk203_severed_gradient_path import SeveredGradientPath

CUT, OPERATION = Location("model.py", 20, "Net.forward"), Location("model.py", 22, "Net.forward")


def judge(rule=None, **values):
    record = {
        "optimizer": "SGD",
        "step": 5,
        "steps": 6,
        "parameters": ("body.weight", "body.bias"),
        "modules": ("body",),
        "operation": "detach",
        "location": CUT,
    }
    return list((rule or SeveredGradientPath()).check([CutPath(**{**record, **values})]))


@pytest.mark.parametrize(("steps", "findings"), [(0, 0), (4, 0), (5, 1), (6, 1)])
def test_fires_at_five_steps(steps, findings):
    assert len(judge(steps=steps)) == findings


def test_the_number_of_steps_is_a_setting():
    assert not judge(SeveredGradientPath(steps=9), steps=8)
    assert judge(SeveredGradientPath(steps=9), steps=9)


def test_a_conditional_cut_may_be_meant():
    assert not judge(conditional=True)


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        ("operation", "`detach` has no gradient"),
        ("no_grad", "`detach` ran while gradients were switched off"),
        ("inference_mode", "`detach` ran in inference mode"),
        ("number", "their value left as a number or array and `detach` made a new tensor of it"),
        ("leaf", "`detach` wrapped their value as a new leaf"),
    ],
)
def test_names_the_cut(cause, text):
    (finding,) = judge(cause=cause, operation_line=OPERATION)
    assert (finding.severity, finding.location) == (Severity.ERROR, CUT)
    assert finding.message == (
        "2 parameter(s) of SGD (body.weight, body.bias) had no gradient in 6 steps: they reached the loss only through"
        f" a cut, {text}."
    )
    assert finding.labels == ((OPERATION, "the operation that lost the gradient"),)


def test_a_backward_that_returns_none_is_named_with_the_line_that_applied_it():
    (finding,) = judge(cause="backward", operation="Linear.backward", operation_line=OPERATION)
    assert finding.message.endswith(": they took part in the loss, but `Linear.backward` returned None for them.")
    assert finding.labels == ((OPERATION, "the function was applied here"),)


def test_a_part_that_ran_whole_in_eval_mode_is_a_warning():
    (finding,) = judge(cause="no_grad", whole_in_eval=True)
    assert finding.severity is Severity.WARNING
    assert "requires_grad_(False)" in finding.remedy


def test_several_operations_of_one_place_are_one_finding():
    (finding,) = judge(cause="no_grad", operation="conv1d", further=("batch_norm", "linear"))
    assert "`conv1d`, `batch_norm` and `linear` ran while gradients were switched off" in finding.message
    assert finding.evidence["further_operations"] == ["batch_norm", "linear"]
    (finding,) = judge(operation="detach", further=("argmax", "gt", "int"))
    assert "`detach`, `argmax` and 2 other operations have no gradient" in finding.message


def test_a_loss_that_nothing_leads_to():
    (finding,) = judge(cause="loss", operation="backward")
    assert finding.message.endswith(
        ": they took part in a forward, but `backward` began at a tensor of its own, to which nothing leads."
    )

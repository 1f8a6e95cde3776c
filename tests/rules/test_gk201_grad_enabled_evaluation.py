"""GK201 on records built by hand: both sides of the threshold, and what the finding says."""

import pytest

from gradkit.findings import Severity
from gradkit.records import EvaluationPass, Location
from gradkit.rules.gk201_grad_enabled_evaluation import GradEnabledEvaluation

LINE = Location("train.py", 30, "validate")


def judge(rule=None, **values):
    record = {"step": 8, "model": "Net", "training": False, "forwards": 2, "recorded": 2, "location": LINE}
    return list((rule or GradEnabledEvaluation()).check([EvaluationPass(**{**record, **values})]))


@pytest.mark.parametrize(
    ("forwards", "recorded", "findings"), [(0, 0, 0), (1, 1, 0), (2, 1, 0), (2, 0, 0), (2, 2, 1), (9, 9, 1)]
)
def test_fires_when_two_forwards_all_recorded_for_nothing(forwards, recorded, findings):
    assert len(judge(forwards=forwards, recorded=recorded)) == findings


def test_the_number_of_forwards_is_a_setting():
    assert not judge(GradEnabledEvaluation(forwards=3))
    assert judge(GradEnabledEvaluation(forwards=3), forwards=3, recorded=3)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "used."),
        (900, "used and saved 900 bytes for"),
        (50_176, "used and saved 50.2 kB for"),
        (3_200_000, "used and saved 3.2 MB for"),
        (2_000_000_000, "used and saved 2.0 GB for"),
    ],
)
def test_states_the_bytes(size, text):
    (finding,) = judge(saved_bytes=size)
    assert (finding.severity, finding.location) == (Severity.WARNING, LINE)
    assert finding.message.startswith(f"2 forwards of Net in eval mode recorded a graph nobody {text}")
    assert finding.evidence["saved_bytes"] == size

"""The table of expected verdicts: every built-in target in every dtype, at ordinary logits and at saturation."""

from __future__ import annotations

import pytest
import torch

from gradkit.check import gradients
from gradkit.check.command.schema import DTYPES, TARGETS
from gradkit.check.command.targets import BUILT_IN

FUSED = ("logistic_fused", "logistic_with_logits", "softmax_cross_entropy", "mlp")
PLAIN = ("square", "sine_of_square", "vector_mean")


def examine(target: str, dtype: str, scale: float):
    case = BUILT_IN[target](scale)
    return gradients(
        case.fn,
        case.inputs,
        case.manual,
        dtype=getattr(torch, dtype),
        reference=case.reference,
        methods=("manual", "reverse"),
    )


EXPECTED = {
    **{(target, dtype, 1.0): "pass" for target in TARGETS for dtype in DTYPES},
    **{(target, dtype, 40.0): "pass" for target in FUSED for dtype in DTYPES},
    **{("logistic_textbook", dtype, 40.0): "non-finite" for dtype in DTYPES},
    **{("worked_example", dtype, 40.0): "non-finite" for dtype in DTYPES},
    # sigmoid(6.7) = 0.99877; the numbers of bfloat16 next to 1 are 0.9961 and 1.
    ("worked_example", "bfloat16", 1.0): "non-finite",
    ("logistic_textbook", "float64", 10.0): "pass",
    ("logistic_textbook", "float32", 10.0): "pass",
    ("logistic_textbook", "bfloat16", 10.0): "non-finite",
    ("logistic_textbook", "float16", 10.0): "non-finite",
}


def test_every_target_is_in_the_help_and_in_the_table():
    assert set(BUILT_IN) == set(TARGETS) == {target for target, _, _ in EXPECTED}


@pytest.mark.parametrize(("target", "dtype", "scale"), EXPECTED)
def test_verdict_is_the_expected_one(target, dtype, scale):
    result = examine(target, dtype, scale)
    if EXPECTED[target, dtype, scale] == "pass":
        result.assert_ok()
        assert not result.findings
    else:
        assert result.verdict == "fail"
        by_hand = [line for line in result if line.subject.startswith("manual")]
        assert all(line.measured["kind"] == "non-finite" and "`div` gave" in line.reason for line in by_hand)
        assert {each.rule for each in result.findings} == {"GK601"}


def test_gradients_are_the_notebooks_numbers():
    line = examine("square", "float32", 1.0).lines[0]
    assert line.measured["value"] == 6.0
    weight, bias = examine("worked_example", "float64", 1.0).lines[:2]
    assert weight.measured["value"] == pytest.approx(6.691763029237442, rel=1e-12)
    assert bias.measured["value"] == pytest.approx(6.691763029237442 / 6.7, rel=1e-12)


def test_textbook_form_without_a_finite_reference_is_inconclusive_beside_its_nan():
    case = BUILT_IN["logistic_textbook"](40.0)
    result = gradients(case.fn, case.inputs, case.manual, dtype=torch.float64, methods=("manual",))
    assert result.verdict == "inconclusive"
    assert "reference=FUNCTION" in result.lines[0].advice


def test_form_one_rounding_away_from_saturation_is_inconclusive_not_right():
    case = BUILT_IN["logistic_textbook"](36.0)
    result = gradients(
        case.fn, case.inputs, case.manual, dtype=torch.float64, reference=case.reference, methods=("manual",)
    )
    assert result.verdict == "inconclusive"
    assert result.lines[0].measured["kind"] == "lucky"

"""The number in a diagnosis is the number of the change, whatever it is."""

from __future__ import annotations

import re

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gradkit.trajectory import compare
from gradkit.trajectory.tolerances import bounds_for
from tests.trajectory.loops import train
from tests.trajectory.test_diagnosis import golden, judged, without_settings

FACTORS = st.floats(-2, 1.5).map(lambda power: float(f"{10**power:.3g}")).filter(lambda factor: abs(factor - 1) > 0.002)
FEW = settings(max_examples=12, deadline=None, derandomize=True)


def number_in(sentence: str) -> float:
    found = re.search(r"-?\d+\.?\d*(e-?\d+)?", sentence)
    assert found, sentence
    return float(found[0])


@FEW
@given(FACTORS)
def test_of_a_learning_rate(factor: float) -> None:
    _, diagnosis = judged(without_settings(golden("momentum")), without_settings(train("momentum", rate=factor)))
    assert diagnosis.kind == "learning-rate"
    # A short update is the difference of nearly equal weights: 1 % of the learning rate leaves 3 digits of it.
    assert abs(number_in(diagnosis.sentence) / factor - 1) < 3e-3


@FEW
@given(FACTORS, st.booleans())
def test_of_a_scaled_loss(factor: float, negative: bool) -> None:
    factor = -factor if negative else factor
    _, diagnosis = judged(golden("adam"), train("adam", loss_factor=factor))
    assert diagnosis.kind == "loss-scaled"
    assert abs(number_in(diagnosis.sentence) / factor - 1) < 1e-3


@FEW
@given(FACTORS, st.booleans())
def test_of_scaled_gradients(factor: float, negative: bool) -> None:
    factor = -factor if negative else factor
    _, diagnosis = judged(golden("sgd"), train("sgd", gradient_factor=factor))
    assert diagnosis.kind == "gradients-scaled"
    assert abs(number_in(diagnosis.sentence) / factor - 1) < 1e-3


@FEW
@given(st.floats(0.001, 0.3))
def test_of_a_weight_decay_that_was_removed(decay: float) -> None:
    _, diagnosis = judged(train("sgd", decay=decay), golden("sgd", decay=0.0))
    assert diagnosis.kind == "weight-decay"
    assert abs(number_in(diagnosis.sentence) / decay - 1) < 1e-3


@FEW
@given(st.floats(0.001, 0.2))
def test_of_an_l2_penalty(strength: float) -> None:
    assume(abs(strength - 0.02) > 0.001)
    _, diagnosis = judged(golden("sgd"), train("sgd", l2=strength))
    assert diagnosis.kind == ("added-term" if strength > 0.02 else "missing-term")
    assert "an L2 penalty" in diagnosis.sentence
    assert abs(number_in(diagnosis.sentence.split(":")[1]) / abs(strength - 0.02) - 1) < 1e-2


@FEW
@given(st.integers(1, 10**6))
def test_any_other_seed_and_order_is_one(seed: int) -> None:
    for options, kind in (({"seed": seed}, "initialisation"), ({"order": seed}, "data-order")):
        _, diagnosis = judged(golden("sgd"), train("sgd", **options))
        assert diagnosis.kind == kind


@FEW
@given(st.integers(0, 10**6))
def test_two_identical_runs_are_identical_whatever_the_seed(seed: int) -> None:
    first = train("adamw", seed=seed, epochs=1)
    assert compare(first, train("adamw", seed=seed, epochs=1), bounds_for(first)) is None


@FEW
@given(st.floats(1.0, 1.0 + 1e-6))
def test_a_change_within_the_tolerance_is_none(factor: float) -> None:
    old = without_settings(golden("sgd"))
    assert compare(old, without_settings(train("sgd", rate=factor)), bounds_for(old)) is None

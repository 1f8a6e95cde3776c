"""Tolerances: both sides of each, and what counts as the same."""

from __future__ import annotations

import math

import pytest

from gradkit.trajectory import ParameterPrint, Trajectory, compare
from gradkit.trajectory.tolerances import RTOL, bounds_for


def golden(dtype: str | None = "float32", **columns: float) -> Trajectory:
    return Trajectory([columns or {"loss": 1.0}] * 9, dtype=dtype)


def first(old: Trajectory, new: Trajectory, rtol: float | None = None) -> str | None:
    found = compare(old, new, bounds_for(old, rtol))
    return None if found is None else f"{found.step} {found.column}"


@pytest.mark.parametrize("dtype", [*RTOL, None])
@pytest.mark.parametrize("step", [0, 8])
def test_a_difference_passes_up_to_the_bound_of_its_dtype_and_step_and_no_further(dtype: str | None, step: int) -> None:
    bound = RTOL[dtype or "float32"] * (1 + step / 4) * (1 + 1e-3)
    for share, expected in ((0.99, None), (1.01, f"{step} loss"), (-0.99, None), (-1.01, f"{step} loss")):
        rows = [{"loss": 1.0 + share * bound * (place == step)} for place in range(9)]
        assert first(golden(dtype), Trajectory(rows, dtype=dtype)) == expected


def test_a_tolerance_of_ones_own_takes_its_place() -> None:
    other = golden(loss=1.01)
    assert first(golden(), other) == "0 loss"
    assert first(golden(), other, rtol=0.02) is None


def test_what_is_a_thousandth_of_its_column_is_held_to_that_thousandth() -> None:
    old = Trajectory([{"loss": 1.0}, {"loss": 1e-9}])
    assert first(old, Trajectory([{"loss": 1.0}, {"loss": 1.5e-8}])) is None
    assert first(old, Trajectory([{"loss": 1.0}, {"loss": 4e-8}])) == "1 loss"


@pytest.mark.parametrize(("column", "passes", "fails"), [("samples", 16.0, 15.999), ("lr", 16 + 1e-9, 16 + 2e-7)])
def test_what_no_rounding_reaches_is_exact(column: str, passes: float, fails: float) -> None:
    for dtype in RTOL:
        old = golden(dtype, **{column: 16.0})
        assert first(old, golden(dtype, **{column: passes})) is None
        assert first(old, golden(dtype, **{column: fails})) == f"0 {column}"


def test_a_cosine_is_held_to_the_rounding_of_its_vectors() -> None:
    base = {"grad_norm_l2": 1.0, "weight_norm_l2": 1.0, "grad_weight_cosine": 0.0}
    old = Trajectory([base])
    assert first(old, Trajectory([base | {"grad_weight_cosine": 3e-5}])) is None
    assert first(old, Trajectory([base | {"grad_weight_cosine": 6e-5}])) == "0 grad_weight_cosine"
    # A gradient that has nearly vanished has no direction left worth comparing.
    small = base | {"grad_norm_l2": 1e-6}
    old = Trajectory([base, small])
    assert first(old, Trajectory([base, small | {"grad_weight_cosine": 0.02}])) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_are_the_same_as_their_own_kind_only(value: float) -> None:
    assert first(golden(loss=value), golden(loss=value)) is None
    assert first(golden(loss=value), golden(loss=1.0)) == "0 loss"
    assert first(golden(loss=1.0), golden(loss=value)) == "0 loss"


def test_a_quantity_that_appears_or_vanishes_is_a_difference() -> None:
    assert first(golden(loss=1.0), golden(loss=1.0, grad_norm_l2=1.0)) == "0 grad_norm_l2"
    assert first(golden(loss=1.0, grad_norm_l2=1.0), golden(loss=1.0)) == "0 grad_norm_l2"


def test_samples_that_were_not_seen_are_no_difference() -> None:
    old = golden(loss=1.0, samples=16.0, batch_signature=2.0)
    assert first(old, golden(loss=1.0)) is None
    assert first(golden(loss=1.0), old) is None
    assert first(old, golden(loss=2.0)) == "0 loss"


def test_parameters_are_compared_by_name_shape_and_both_moments() -> None:
    def of(**prints: ParameterPrint) -> Trajectory:
        return Trajectory([{"loss": 1.0}], prints)

    old = of(w=ParameterPrint((2,), (1.0, 0.5), (2.0, 0.5)))
    assert first(old, old) is None
    assert first(old, of(v=ParameterPrint((2,), (1.0, 0.5), (2.0, 0.5)))) == "None parameter"
    assert first(old, of(w=ParameterPrint((3,), (1.0, 0.5), (2.0, 0.5)))) == "None parameter"
    assert first(old, of(w=ParameterPrint((2,), (1.0, 0.5001), (2.0, 0.5)))) == "None initial weights"
    assert first(old, of(w=ParameterPrint((2,), (1.0, 0.5), (2.0, 0.5001)))) == "None final weights"
    assert first(old, of(w=ParameterPrint((2,), (1.0, math.nan), (2.0, 0.5)))) == "None initial weights"
    assert first(old, Trajectory([{"loss": 1.0}])) is None  # a loop that wrote its own records names none


def test_the_order_of_events_decides_what_is_first() -> None:
    old = golden(loss=1.0, grad_norm_l2=1.0, update_norm_l2=1.0)
    assert first(old, golden(loss=2.0, grad_norm_l2=2.0, update_norm_l2=2.0)) == "0 loss"
    assert first(old, golden(loss=1.0, grad_norm_l2=2.0, update_norm_l2=2.0)) == "0 grad_norm_l2"
    assert first(old, Trajectory(old.rows[:5], dtype="float32")) == "None number of steps"
    assert first(old, Trajectory(old.rows, dtype="float64")) == "None dtype"

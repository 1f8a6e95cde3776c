"""A claim holds when the numbers bear it out and fails when they do not: each with its twin."""

import math

import pytest

from gradkit.experiment.claims import judge
from gradkit.experiment.schema import Arm, Claim

ARMS = [Arm(name, "train", (), {"arm": name}) for name in ("a/x", "a/y", "b/x", "b/y")]
SEEDS = range(5)


def verdict(claim, values, found=None):
    measured = {
        arm: {seed: {"m": value} for seed, value in zip(SEEDS, row, strict=False)} for arm, row in values.items()
    }
    metrics = {"m": "test.log_loss"}
    (made,) = judge([claim], ARMS, SEEDS, metrics, measured, found or {})
    return made


def claim(**settings):
    return Claim("say", **({"arm": "a/x", "metric": "m"} | settings))


UP, DOWN = [2.0, 3, 4, 5, 6], [1.0, 2, 3, 4, 5]


def test_above_and_below_are_decided_seed_by_seed():
    assert verdict(claim(above="b/x"), {"a/x": UP, "b/x": DOWN}).holds
    assert not verdict(claim(below="b/x"), {"a/x": UP, "b/x": DOWN}).holds
    # A mean would call this higher; one seed says otherwise.
    assert not verdict(claim(above="b/x"), {"a/x": [*UP[:4], 4.0], "b/x": DOWN}).holds
    assert verdict(claim(above="b/x", seeds=4), {"a/x": [*UP[:4], 4.0], "b/x": DOWN}).holds


def test_equal_values_are_neither_above_nor_below():
    assert not verdict(claim(above="b/x"), {"a/x": UP, "b/x": UP}).holds
    assert verdict(claim(equals="b/x"), {"a/x": UP, "b/x": UP}).holds


def test_a_factor_and_a_number_can_be_held_against():
    assert verdict(claim(above="b/x", factor=1.1), {"a/x": UP, "b/x": DOWN}).holds
    assert not verdict(claim(above="b/x", factor=2), {"a/x": UP, "b/x": DOWN}).holds
    assert verdict(claim(below=6.5), {"a/x": UP}).holds
    assert not verdict(claim(below=6), {"a/x": UP}).holds


def test_equality_has_a_relative_tolerance():
    near = [value * (1 + 1e-9) for value in UP]
    assert verdict(claim(equals="b/x", tolerance=1e-8), {"a/x": near, "b/x": UP}).holds
    assert not verdict(claim(equals="b/x", tolerance=1e-10), {"a/x": near, "b/x": UP}).holds


def test_a_pattern_stands_for_every_arm_and_its_partner():
    values = {"a/x": UP, "b/x": DOWN, "a/y": UP, "b/y": DOWN}
    made = verdict(claim(arm="a/*", above="b/*"), values)
    assert [(detail.arm, detail.other) for detail in made.details] == [("a/x", "> b/x"), ("a/y", "> b/y")]
    assert made.holds
    assert not verdict(claim(arm="a/*", above="b/*"), values | {"b/y": UP}).holds


def test_a_missing_seed_bears_nothing_out():
    assert not verdict(claim(above="b/x"), {"a/x": UP[:4], "b/x": DOWN}).holds
    assert verdict(claim(above="b/x", seeds=4), {"a/x": UP[:4], "b/x": DOWN}).holds
    assert not verdict(claim(above="b/x"), {"b/x": DOWN}).holds


def test_a_loss_that_is_no_number_counts_as_infinitely_high():
    assert verdict(claim(above="b/x"), {"a/x": [math.nan] * 5, "b/x": DOWN}).holds
    assert not verdict(claim(below="b/x"), {"a/x": [math.nan] * 5, "b/x": DOWN}).holds
    assert not verdict(claim(above="b/x"), {"a/x": [math.nan] * 5, "b/x": [math.inf] * 5}).holds


def test_a_ratio_holds_by_the_interval_of_its_mean_and_not_by_the_mean():
    steady = [2.0 * value for value in DOWN]
    assert verdict(claim(ratio_to="b/x", between=(1.9, 2.1)), {"a/x": steady, "b/x": DOWN}).holds
    assert not verdict(claim(ratio_to="b/x", between=(2.1, None)), {"a/x": steady, "b/x": DOWN}).holds
    noisy = [value * factor for value, factor in zip(DOWN, [1, 4, 1, 4, 2], strict=True)]
    assert not verdict(claim(ratio_to="b/x", between=(1.9, 2.1)), {"a/x": noisy, "b/x": DOWN}).holds
    assert (
        "interval" in verdict(claim(ratio_to="b/x", between=(None, None)), {"a/x": noisy, "b/x": DOWN}).details[0].text
    )


@pytest.mark.parametrize("row", [[0.0] * 5, [math.nan] * 5, [1.0], []])
def test_a_ratio_without_enough_numbers_does_not_hold(row):
    assert not verdict(claim(ratio_to="b/x", between=(None, None)), {"a/x": row, "b/x": DOWN}).holds


def test_findings_are_claimed_and_their_absence_is():
    found = {"a/x": {seed: ["GK101"] for seed in SEEDS}, "b/x": {seed: [] for seed in SEEDS}}
    assert verdict(Claim("say", "a/x", finding="GK101"), {}, found).holds
    assert not verdict(Claim("say", "a/x", finding="GK102"), {}, found).holds
    assert not verdict(Claim("say", "b/x", finding="GK101"), {}, found).holds
    assert verdict(Claim("say", "b/x", absent="*"), {}, found).holds
    assert not verdict(Claim("say", "a/x", absent="*"), {}, found).holds
    assert verdict(Claim("say", "a/x", absent="GK102"), {}, found).holds
    # Runs that failed are no runs without a finding.
    assert not verdict(Claim("say", "b/y", absent="*"), {}, found).holds

"""Curves hold every step once, survive damage, and keep their extremes when they are thinned."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradkit.compare.curves import groups, rows_of_arm
from gradkit.errors import ConfigError
from gradkit.runs.series import STALE_SHARE, Series, read_series, series_of
from tests.compare.folders import manifest, steps, write


def curve(values, steps=None):
    return Series(np.arange(len(values)) if steps is None else np.array(steps), np.array(values, dtype=float))


def test_after_a_resumption_the_last_attempt_counts_and_steps_are_in_order():
    first = [{"event": "step", "attempt": 1, "step": step, "loss": 1.0} for step in range(10)]
    second = [{"event": "step", "attempt": 2, "step": step, "loss": 2.0} for step in range(6, 9)]
    made = series_of([*first[5:], *second, *first[:5]])["loss"]
    assert made.steps.tolist() == list(range(10))
    assert made.values.tolist() == [1.0] * 6 + [2.0] * 3 + [1.0]


def test_kinds_splits_and_optimizers_are_told_apart():
    events = [
        {"event": "step", "step": 0, "loss": 1},
        {"event": "evaluation", "step": 0, "split": "test", "loss": 2.0},
        {"event": "window", "step": 0, "optimizer": "Adam", "cosine": 0.5},
        {"event": "window", "step": 0, "optimizer": "Adam#2", "cosine": 0.25},
    ]
    made = series_of(events)
    assert {name: each.values.tolist() for name, each in made.items()} == {
        "loss": [1.0], "test.loss": [2.0], "window.cosine": [0.5], "window[Adam#2].cosine": [0.25],
    }  # fmt: skip


def test_the_stale_share_is_worked_out_and_undefined_where_both_norms_are_zero():
    norms = [(0.0, 1.0), (3.0, 1.0), (0.0, 0.0)]
    events = [
        {"event": "window", "step": step, "stale_norm_l2": stale, "fresh_norm_l2": fresh}
        for step, (stale, fresh) in enumerate(norms)
    ]
    share = series_of(events)[STALE_SHARE].values
    assert share[:2].tolist() == [0.0, 0.75]
    assert math.isnan(share[2])


def test_half_written_lines_words_and_huge_numbers_do_no_harm(tmp_path):
    folder = write(tmp_path / "r", manifest(), steps(3))
    with (folder / "events.jsonl").open("a") as file:
        odd = [
            {"loss": "NaN"},
            {"loss": 10**400},
            {"loss": None},
            {"loss": True},
            {"loss": [1]},
            {"step": 2**70, "loss": 1.0},
        ]
        file.writelines(json.dumps({"event": "step", "attempt": 1, "step": 3} | each) + "\n" for each in odd)
        file.write('{"event": "step", "step": 4, "lo')
    loss = read_series(folder)["loss"]
    assert loss.steps.tolist() == [0, 1, 2, 3]
    assert math.isnan(loss.values[3])
    assert loss.non_finite == 1


def test_a_run_without_events_has_no_curves(tmp_path):
    assert read_series(write(tmp_path / "r", manifest())) == {}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=400), st.integers(4, 60))
def test_thinning_keeps_both_ends_and_both_extremes(values, points):
    made = curve(values)
    thin = made.thinned(points)
    finite = made.values[np.isfinite(made.values)]
    assert len(thin.steps) <= max(points, 4)
    assert (np.diff(thin.steps) > 0).all()
    if len(finite):
        assert (thin.values.min(), thin.values.max()) == (finite.min(), finite.max())
        assert (thin.values[0], thin.values[-1]) == (finite[0], finite[-1])
    assert all(value == made.values[step] for step, value in zip(thin.steps, thin.values, strict=True))


def test_one_number_is_taken_as_its_word_says():
    made = curve([3.0, 1.0, 2.0])
    assert [made.take(how) for how in ("first", "last", "min", "max", "mean", "median")] == [
        3.0,
        2.0,
        1.0,
        3.0,
        2.0,
        2.0,
    ]
    diverged = curve([3.0, math.nan])
    assert (diverged.take("max"), diverged.take("min")) == (math.inf, 3.0)
    assert math.isnan(curve([math.nan]).take("mean"))
    with pytest.raises(ConfigError):
        made.take("mode")


def test_the_band_of_an_arm_reaches_from_the_lowest_to_the_highest_seed():
    rows = rows_of_arm("a", [curve([1.0, 1.0]), curve([3.0, 1.0]), curve([2.0, math.nan])])
    assert rows == [{"x": 0, "y": 2.0, "arm": "a", "low": 1.0, "high": 3.0}, {"x": 1, "y": 1.0, "arm": "a"}]


def test_a_peak_of_one_step_stays_in_the_band_of_a_long_run():
    values = np.ones(100_000)
    values[54_321] = 1e6
    rows = rows_of_arm("a", [curve(values)])
    assert len(rows) <= 160
    assert max(row.get("high", row["y"]) for row in rows) == 1e6


def test_every_series_is_in_one_chart():
    names = ["loss", "lr", "grad_norm_l2", "window.cosine", "peak_bytes", "strange", "validation.log_loss"]
    made = groups(names)
    assert sorted(name for group in made for name in group.names) == sorted(names)
    assert made[0].title == "Loss"

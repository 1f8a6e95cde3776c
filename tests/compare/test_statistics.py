"""Intervals are those of SciPy, pairs are paired, and nothing non-finite is averaged."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from gradkit.compare.statistics import interval, paired


@pytest.mark.parametrize("n", [2, 3, 5, 19])
def test_the_interval_of_few_values_is_students(n):
    values = np.random.default_rng(n).normal(3.0, 2.0, n).tolist()
    made = interval(values)
    low, high = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (made.low, made.high, made.method) == (pytest.approx(low), pytest.approx(high), "t")


def test_it_is_bootstrapped_from_twenty_values_on_and_the_same_every_time():
    values = np.random.default_rng(0).exponential(1.0, 20).tolist()
    assert interval(values).method == "bootstrap"
    assert interval(values) == interval(values)
    assert interval(values[:19]).method == "t"


def test_the_t_interval_covers_what_it_says_with_five_values():
    generator = np.random.default_rng(1)
    hits = sum(
        made.low <= 0 <= made.high for made in (interval(generator.normal(size=5).tolist()) for _ in range(2000))
    )
    # 95 % of 2,000 is 1,900 with a standard deviation of 10.
    assert abs(hits - 1900) < 40


def test_one_value_and_none_have_no_interval():
    assert (interval([2.0]).mean, interval([2.0]).low, interval([2.0]).half) == (2.0, None, None)
    assert math.isnan(interval([]).mean)


def test_equal_values_have_an_interval_of_no_width():
    assert (interval([0.1] * 5).low, interval([0.1] * 5).high, interval([0.1] * 5).mean) == (0.1, 0.1, 0.1)


def test_pairs_are_made_by_key_and_not_by_order():
    reference = {seed: float(seed) for seed in range(5)}
    keys = list(range(5))
    random.Random(0).shuffle(keys)
    made = paired({seed: seed + 1.0 for seed in keys}, reference)
    assert (made.n, made.higher, made.difference.mean, made.difference.half) == (5, 5, 1.0, 0.0)


def test_a_non_finite_side_is_counted_and_not_averaged():
    made = paired({0: math.nan, 1: math.inf, 2: 2.0}, {0: 1.0, 1: 1.0, 2: 1.0})
    assert (made.n, made.non_finite, made.higher, made.difference.n) == (3, 2, 1, 1)


def test_without_common_pairs_there_is_no_difference():
    made = paired({0: 1.0}, {1: 1.0})
    assert (made.n, made.difference.n) == (0, 0)

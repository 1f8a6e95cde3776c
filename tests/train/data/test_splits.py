"""Stratified splits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradkit.errors import ConfigError, DataError
from gradkit.train.data.splits import stratified_indices

NAMED = {"where": "data.path='x'", "label_mapping": {"no": 0, "yes": 1}}


@settings(max_examples=200, deadline=None)
@given(
    negatives=st.integers(3, 80),
    positives=st.integers(3, 80),
    validation=st.floats(0.01, 0.3),
    test=st.floats(0.01, 0.3),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_are_disjoint_complete_and_hold_both_classes(negatives, positives, validation, test, seed):
    targets = np.random.default_rng(seed).permutation(np.repeat([0.0, 1.0], [negatives, positives])).astype(np.float32)
    parts = stratified_indices(targets, validation, test, seed, **NAMED)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(targets)))
    for part, share in zip(parts, (1 - validation - test, validation, test), strict=True):
        assert np.array_equal(part, np.sort(part))
        for value, count in ((0, negatives), (1, positives)):
            held = int((targets[part] == value).sum())
            assert held >= 1
            # One for rounding of each of the two shares cut off, one for the sample every part gets.
            assert abs(held - share * count) <= 3


def test_the_seed_decides_the_split():
    targets = np.tile([0.0, 1.0], 50).astype(np.float32)
    split = [stratified_indices(targets, 0.2, 0.2, seed, **NAMED) for seed in (0, 0, 1)]
    assert all(np.array_equal(a, b) for a, b in zip(split[0], split[1], strict=True))
    assert not np.array_equal(split[0].test, split[2].test)


def test_the_split_of_a_seed_never_changes():
    targets = np.tile([0.0, 1.0], 10).astype(np.float32)
    parts = stratified_indices(targets, 0.2, 0.2, 7, **NAMED)
    assert parts.test.tolist() == [8, 12, 15, 17]
    assert parts.validation.tolist() == [6, 9, 13, 14]


def test_a_class_of_two_samples_is_too_small():
    targets = np.array([0, 0, 0, 1, 1], dtype=np.float32)
    with pytest.raises(DataError, match="class 'yes' has 2 samples, too few"):
        stratified_indices(targets, 0.2, 0.2, 0, **NAMED)
    stratified_indices(np.array([0, 0, 0, 1, 1, 1], dtype=np.float32), 0.2, 0.2, 0, **NAMED)


def test_fractions_that_take_all_samples_of_a_class_say_what_they_take():
    targets = np.tile([0.0, 1.0], 212).astype(np.float32)
    with pytest.raises(DataError) as caught:
        stratified_indices(targets, 0.499, 0.5, 0, **NAMED)
    assert str(caught.value) == (
        "data.path='x': data.validation_fraction=0.499 and data.test_fraction=0.5 take 106 + 106 of the 212 samples of "
        "class 'no', which leaves none to train on; take smaller fractions."
    )
    assert len(stratified_indices(targets, 0.497, 0.5, 0, **NAMED).train) == 2


def test_fractions_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"data\.validation_fraction=0\.5 and data\.test_fraction=0\.5"):
        stratified_indices(np.tile([0.0, 1.0], 10).astype(np.float32), 0.5, 0.5, 0, **NAMED)

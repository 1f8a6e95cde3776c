"""Running moments against NumPy's, and columns that cannot be scaled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradkit.errors import DataError
from gradkit.train.data.samples import ArrayBlocks, Samples
from gradkit.train.data.scaling import Moments


def scale(*blocks):
    moments = Moments()
    for block in blocks:
        moments.add(block)
    width = blocks[0].shape[1]
    names = tuple(f"x{index}" for index in range(width))
    return moments.scale(Samples("data.path='x'", ArrayBlocks(blocks[0]), blocks[0][:, 0], names, {}, ""))


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 200), max_size=5),
    offset=st.sampled_from([0.0, 1.0, 1e6]),
)
def test_merged_blocks_have_the_moments_of_the_whole(seed, cuts, offset):
    values = np.random.default_rng(seed).standard_normal((200, 3)) * [1, 1e-3, 1e3] + offset
    found = scale(*np.split(values, sorted(cuts)))
    # A mean of 1e6 leaves a spread of 1e-3 about seven digits; merging loses little of them.
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.deviation, values.std(axis=0), rtol=1e-6 if offset > 1 else 1e-12)


def test_a_constant_column_is_divided_by_one_even_where_its_mean_is_rounded():
    values = np.full((1000, 2), 0.1)
    values[:, 1] = np.arange(1000)
    found = scale(*np.split(values, 7 * np.arange(1, 9)))
    assert found.constant.tolist() == [0]
    assert found.deviation[0] == 1
    assert found.mean[0] == 0.1


@pytest.mark.parametrize("values", [[1e300, 2e300, -3e300], [0, 1e-320, 2e-320], [1.7e308, 1.7e308, 0]])
def test_numbers_beyond_float64_arithmetic_are_refused(values):
    with pytest.raises(DataError, match=r"column 'x0', from .* cannot be scaled"):
        scale(np.array(values)[:, None])

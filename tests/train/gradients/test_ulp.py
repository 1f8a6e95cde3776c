"""Units in the last place are measured where they matter, and non-finite values are not lost."""

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradkit.train.gradients import ulp
from gradkit.train.gradients.ulp import largest_differences, spacing


@given(st.floats(-(2.0**127), 2.0**127, width=32))
def test_spacing_is_numpys_in_float32(value: float) -> None:
    expected = np.spacing(np.abs(np.float32(value)))
    assert spacing(torch.tensor(value).abs()).item() == expected


@given(st.floats(-(2.0**1023), 2.0**1023))
def test_spacing_is_numpys_in_float64(value: float) -> None:
    assert spacing(torch.tensor(value, dtype=torch.float64).abs()).item() == np.spacing(abs(value))


def test_one_step_of_the_largest_element_is_one_ulp_and_small_elements_are_measured_by_it() -> None:
    a = torch.tensor([1.0, 1e-20])
    b = torch.tensor([1.0 + 2**-23, 1e-20])
    assert [x.item() for x in largest_differences([(a, b)])] == [2**-23, 1]
    b = torch.tensor([1.0, 3e-20])  # two hundred per cent of an element that is rounding noise beside the first
    assert largest_differences([(a, b)])[1] < 1e-12


def test_the_largest_over_all_tensors_is_taken_each_for_itself() -> None:
    big = (torch.tensor([1024.0]), torch.tensor([1024.0 + 2**-13]))
    small = (torch.tensor([2.0**-10]), torch.tensor([2.0**-10 + 2**-30]))
    absolute, ulps = largest_differences([big, small])
    assert absolute == 2**-13
    assert ulps == 8


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (math.nan, math.nan, 0.0),
        (math.inf, math.inf, 0.0),
        (math.inf, -math.inf, math.inf),
        (math.nan, 1.0, math.inf),
        (1.0, math.inf, math.inf),
        (0.0, -0.0, 0.0),
    ],
)
def test_values_that_are_not_finite(a: float, b: float, expected: float) -> None:
    absolute, ulps = largest_differences([(torch.tensor([a, 1.0]), torch.tensor([b, 1.0]))])
    assert absolute == expected
    assert ulps == expected


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(ulp, extraglobs={"torch": torch}).failed == 0

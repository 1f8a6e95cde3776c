"""The parts the bounds are made of: random rounding, spacing, Student's factor, differences and their own error."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradkit.check.engine.bounds import simulation, student_factor
from gradkit.check.engine.differences import derivative
from gradkit.check.engine.methods import build, by_reverse
from gradkit.check.engine.precision import FORMATS, round_randomly, spacing
from gradkit.check.engine.subject import Subject

LOW = [torch.float32, torch.bfloat16, torch.float16]


def rounded(values, dtype, seed=0):
    fmt = FORMATS[dtype]
    generator = torch.Generator().manual_seed(seed)
    return round_randomly(torch.tensor(values, dtype=torch.float64), fmt.bits, fmt, generator)


@pytest.mark.parametrize("dtype", LOW, ids=str)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, allow_subnormal=False), min_size=1, max_size=20), st.integers(0, 99))
def test_random_rounding_gives_one_of_the_two_neighbours_the_dtype_can_hold(dtype, values, seed):
    exact = torch.tensor(values, dtype=torch.float64)
    found = rounded(values, dtype, seed)
    assert torch.equal(found.to(dtype).double(), found), "not a number of the format"
    ulp = spacing(exact, FORMATS[dtype])
    assert bool(((found - exact).abs() <= ulp).all())
    representable = exact.to(dtype).double() == exact
    assert torch.equal(found[representable], exact[representable])


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_random_rounding_goes_both_ways_and_overflows_as_the_dtype_does(dtype):
    third = rounded([1 / 3] * 400, dtype)
    assert len(third.unique()) == 2
    assert 120 < int((third > 1 / 3).sum()) < 280
    assert rounded([1e39], dtype).item() == math.inf
    assert rounded([-1e39], dtype).item() == -math.inf
    assert math.isnan(rounded([math.nan], dtype).item())


def test_random_rounding_of_float16_keeps_its_subnormal_numbers():
    smallest = 2.0**-24
    found = rounded([1.3 * smallest, smallest, 0.2 * smallest], torch.float16)
    assert found[0].item() in (smallest, 2 * smallest)
    assert found[1].item() == smallest
    assert found[2].item() in (0.0, smallest)


@pytest.mark.parametrize("dtype", [*LOW, torch.float64], ids=str)
def test_spacing_is_the_distance_to_the_next_number(dtype):
    values = torch.tensor([1.0, 1.5, 2.0, 3.75, 0.1, 1000.0, -7.0], dtype=dtype)
    bigger = torch.nextafter(values.abs(), torch.tensor(math.inf, dtype=dtype)).double()
    assert torch.equal(spacing(values.double(), FORMATS[dtype]), bigger - values.abs().double())


def test_student_factor_is_that_of_the_table():
    assert student_factor(10, 0.05) == pytest.approx(2.228, abs=1e-3)
    assert student_factor(16, 1e-10) > student_factor(32, 1e-10) > 6


def test_float64_is_imitated_with_fewer_bits_and_scaled_back():
    assert simulation(24) == (24, 1.0)
    bits, scale = simulation(53)
    assert scale == 2.0 ** (bits - 53)


CURVES = {
    "sine": (torch.sin, torch.cos),
    "exponential": (torch.exp, torch.exp),
    "logarithm": (torch.log, lambda x: 1 / x),
    "root": (torch.sqrt, lambda x: 0.5 / x.sqrt()),
    "reciprocal": (torch.reciprocal, lambda x: -(x**-2)),
    "fifth power": (lambda x: x**5, lambda x: 5 * x**4),
    "fast sine": (lambda x: torch.sin(50 * x), lambda x: 50 * torch.cos(50 * x)),
    "corner nearby": (lambda x: (x - 0.999 * x.detach()).abs() + x**2, lambda x: 1 + 2 * x),
}


@pytest.mark.parametrize("name", CURVES)
@settings(max_examples=40, deadline=None)
@given(place=st.floats(1e-3, 1e2))
def test_error_of_a_difference_is_within_its_own_bound(name, place):
    curve, slope = CURVES[name]
    point = torch.tensor([place], dtype=torch.float64)
    if name == "corner nearby":
        at = 0.999 * point

        def curve(x):
            return (x - at).abs() + x**2

    value = curve(point)
    found = derivative(
        curve,
        point,
        value,
        torch.ones(1, dtype=torch.float64),
        weights=torch.ones(1, dtype=torch.float64),
        noise=8
        * 2.0**-53
        * value.abs().clamp_min(1.0 if name in ("fast sine", "sine") else 0.0)
        * max(1.0, 50 * place if name == "fast sine" else place if name in ("sine", "exponential") else 1.0),
        unit=2.0**-53,
        size=place,
        goal=1e-9 * float(slope(point).abs()),
    )
    assert not found.kink
    assert abs(found.value - float(slope(point))) <= found.error
    assert found.error <= 1e-3 * max(1.0, abs(float(slope(point))))


def test_corner_at_the_point_is_seen_with_both_slopes():
    point = torch.zeros(1, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    tiny = torch.full((1,), 1e-17, dtype=torch.float64)
    found = derivative(
        lambda x: x.relu() * 3 - x, point, point, one, weights=one, noise=tiny, unit=1e-17, size=1.0, goal=1e-9
    )
    assert found.kink
    assert (found.left, found.right) == pytest.approx((-1.0, 2.0))


SUMS = {
    "softmax product": lambda x: (torch.softmax(x @ x.T, -1) @ x).pow(2).sum(),
    "variance": lambda x: (x.var(0) / (1 + x.mean(0) ** 2)).sum(),
    "cancelling": lambda x: ((1 + x) ** 3 - 1 - 3 * x - 3 * x**2).sum(),
    "tanh chain": lambda x: (x.tanh() * 3).tanh().mul(x).sum(),
}


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("name", SUMS)
def test_bound_covers_the_real_rounding_error_without_drowning_it(name, dtype):
    """Over many points the error in units of the bound stays below 1, and is no vanishing share of it either."""
    shares = []
    for seed in range(12):
        point = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        subject = Subject(SUMS[name], point, dtype=dtype)
        engine = build(subject, None, seed=seed)
        measured = engine.measure(by_reverse, subject.size)
        shares.append(((measured.value - measured.formula).abs() / measured.rounding).max())
    worst = float(torch.stack(shares).max())
    assert 0.01 < worst < 1

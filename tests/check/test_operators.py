"""A fixed sample of PyTorch's operator database: the verdicts of gradcheck, and reasons where they differ."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch

from gradkit.check import gradients
from tests.check.operators import (
    EXPLAINED,
    INCONCLUSIVE,
    LOST_IN_FLOAT32,
    by_gradcheck,
    differentiable_operators,
    operator_of,
)

pytest.importorskip("expecttest")

SAMPLE = 150
STRIDE = 3
"""Every third differentiable operator, in the order of the database."""


@functools.cache
def sample():
    found = []
    for number, entry in enumerate(differentiable_operators()):
        if number % STRIDE == 0 and (operator := operator_of(entry)) is not None:
            found.append(operator)
    return found[:SAMPLE]


def verdict(operator, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gradients(operator.fn, operator.inputs, dtype=dtype, cotangent="random", methods=("reverse",)).verdict


HALVES = pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.slow)])


@HALVES
def test_float64_verdicts_agree_with_gradcheck(half):
    assert len(sample()) == SAMPLE
    differing = []
    for operator in sample()[half::2]:
        ours, theirs = verdict(operator, torch.float64), by_gradcheck(operator, fast=True)
        agreed = (ours == "pass") is theirs and ours != "inconclusive"
        if not agreed and operator.name not in EXPLAINED and operator.name not in INCONCLUSIVE:
            differing.append((operator.name, ours, theirs))
    assert not differing


@HALVES
def test_float32_verdicts_are_those_of_float64(half):
    differing = []
    for operator in sample()[half::2]:
        coarse = verdict(operator, torch.float32)
        if coarse != "pass" and coarse != verdict(operator, torch.float64) and operator.name not in LOST_IN_FLOAT32:
            differing.append((operator.name, coarse))
    assert not differing

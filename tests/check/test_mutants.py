"""Every wrong backward pass is found, every right one and every equivalent one passes, in float64 and float32."""

from __future__ import annotations

import pytest
import torch

from gradkit.check import gradients
from tests.check.mutants import SUBJECTS, mutants


def verdict(subject, backward, dtype, seed=1):
    function = subject.function(backward)
    return gradients(
        lambda *inputs: function.apply(*inputs),
        subject.point(seed),
        dtype=dtype,
        methods=("reverse",),
        cotangent="random",
    ).verdict


def test_there_are_twenty_subjects_and_a_hundred_and_twenty_mutants():
    assert len(SUBJECTS) == 20
    assert len(mutants()) == 120
    assert all(set(subject.equivalent) <= set(subject.mutants) for subject in SUBJECTS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_right_backward_passes_at_several_points(subject, dtype):
    assert {verdict(subject, subject.backward, dtype, seed) for seed in (1, 2)} == {"pass"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_every_mutant_fails_unless_it_is_equivalent(subject, dtype):
    found = {name: verdict(subject, backward, dtype) for name, backward in subject.mutants.items()}
    assert found == {name: "pass" if name in subject.equivalent else "fail" for name in subject.mutants}

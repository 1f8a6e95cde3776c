"""No right code fails and no wrong code passes: foreign backward passes, and a sample of the benchmark's models."""

from __future__ import annotations

import pytest

from gradkit.check import function, module
from tests.check.foreign import FOREIGN
from tests.check.model_zoo import OWN, built, cases

DOUBTFUL = {"kernel for bfloat16 only"}
"""Right, and too coarse to be shown right: differences in bfloat16 have eight bits."""


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda each: each.name)
def test_foreign_backward_pass_is_told_right_from_wrong(foreign):
    found = function(foreign.function, foreign.inputs, order=1, reference=foreign.reference)
    expected = "inconclusive" if foreign.name in DOUBTFUL else "pass" if foreign.right else "fail"
    assert found.verdict == expected
    assert found.ok or all(line.reason for line in found if line.verdict == expected)


def test_the_benchmark_has_sixty_models():
    assert len(cases()) == len({each.name for each in cases()}) == 60
    assert sum(each.right for each in cases()) == 36


@pytest.mark.parametrize("family", ["cnn", "lstm", "weight normalization"])
def test_right_model_passes_and_its_wrong_twin_fails(family):
    assert family in OWN
    module(*built(family)).assert_ok()
    assert module(*built(family, fault="factor")).verdict == "fail"


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", ["none", "kept", "reentrant"])
def test_language_model_passes_with_and_without_checkpoints(checkpoints):
    pytest.importorskip("transformers")
    module(*built("gpt2", checkpoints)).assert_ok()
    assert module(*built("gpt2", checkpoints, "factor")).verdict == "fail"

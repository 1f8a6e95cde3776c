"""Gradients of a compiled model against eager ones; the backends here compile without a compiler of C++."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from gradkit.check import CheckInputError, compiled

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def loss(model, batch):
    return model(batch).square().mean()


def net(*between):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), *between, nn.Linear(8, 1))


def other_constant(graph, example_inputs):
    """Scales what the last operation gives by one part in a thousand."""
    return lambda *given: tuple(each * 1.001 if each.requires_grad else each for each in graph.forward(*given))


def by(backend):
    return functools.partial(torch.compile, backend=backend)


def test_right_compiler_passes_and_nothing_is_left_behind():
    model = net(nn.Tanh(), nn.Dropout(0.5))
    state = torch.get_rng_state()
    result = compiled(model, loss, X, compiler=by("aot_eager"))
    result.assert_ok()
    assert result.settings["graphs"] >= 1
    assert all(each.grad is None for each in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_compiler_is_found_with_parameter_and_index():
    result = compiled(net(nn.Tanh()), loss, X, compiler=by(other_constant))
    assert result.verdict == "fail"
    assert {each.rule for each in result.findings} == {"GK607"}
    assert all(line.subject.startswith("gradient of ") and "eager mode gives" in line.reason for line in result)


def test_what_is_no_comparison_is_inconclusive_with_the_reason():
    def broken(graph, example_inputs):
        raise ArithmeticError("no kernel")

    result = compiled(net(nn.Tanh()), loss, X, compiler=by(broken))
    assert result.verdict == "inconclusive"
    assert "no kernel" in result.lines[0].reason
    result = compiled(net(nn.Tanh()), loss, X, compiler=lambda model: model)
    assert result.verdict == "inconclusive"
    assert "Nothing was compiled" in result.lines[0].reason


def test_model_without_a_gradient_is_refused():
    with pytest.raises(CheckInputError, match="no trainable parameter"):
        compiled(net().requires_grad_(False), loss, X, compiler=by("eager"))

"""`module`: whole models at their own dtype, and the wrong element by name and index."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradkit.check import CheckInputError, accumulation, module, overfit
from gradkit.check.engine.module import directions_for
from tests.check.whole_models import batch_of, cross_entropy, models

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer", "lstm"])
def test_right_model_passes_under_sixty_forwards(name):
    model, batch = models()[name]
    result = module(model, cross_entropy, batch)
    result.assert_ok()
    assert result.settings["evaluations"] < 60
    if name == "mlp":
        assert result.settings["parameters"] > 1_000_000
    # A convolution's bias before batch normalization has no gradient to be sensitive to.
    seen = [
        share for parameter, share in result.settings["sensitivity"].items() if parameter not in ("0.bias", "4.bias")
    ]
    assert all(share < 1e-3 for share in seen)


class Flipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad_weight = grad.T @ x
        grad_weight[3, 5] = -grad_weight[3, 5]
        return grad @ weight, grad_weight


class FlippedLinear(nn.Linear):
    def forward(self, x):
        return Flipped.apply(x, self.weight) + self.bias


def small(layer, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.Tanh(), layer(32, 20), nn.Tanh(), nn.Linear(20, 10)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_wrong_sign_is_found_by_name_and_index_and_its_twin_passes(dtype):
    x, labels = batch_of(4, 16)
    result = module(small(FlippedLinear, dtype), cross_entropy, (x.to(dtype), labels))
    assert result.verdict == "fail"
    (named,) = result.lines[1:]
    assert named.subject == "reverse, 2.weight"
    assert named.measured["index"] == (3, 5)
    assert named.measured["value"] == pytest.approx(-named.measured["reference"], rel=1e-3)
    assert [each.rule for each in result.findings] == ["GK601"]
    module(small(nn.Linear, dtype), cross_entropy, (x.to(dtype), labels)).assert_ok()


def test_model_random_state_and_gradients_are_exactly_as_before():
    model, batch = models()["cnn"]
    model.append(nn.Dropout(0.5))
    model.calls = 7
    model(batch[0]).sum().backward()
    before = copy.deepcopy(model.state_dict())
    grads = [each.grad.clone() for each in model.parameters()]
    state = torch.get_rng_state()
    module(model, cross_entropy, batch).assert_ok()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(each.grad, grad) for each, grad in zip(model.parameters(), grads, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.calls == 7


def test_frozen_and_shared_parameters():
    torch.manual_seed(0)
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    second.bias.requires_grad_(False)
    result = module(nn.Sequential(first, nn.Tanh(), second), cross_entropy, batch_of(5, 6, classes=6))
    result.assert_ok()
    assert set(result.settings["sensitivity"]) == {"0.weight", "0.bias"}


@pytest.mark.parametrize("seed", range(8))
def test_networks_full_of_corners_give_no_false_failure(seed):
    torch.manual_seed(seed)
    dtype = DTYPES[seed % 4]
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.BatchNorm1d(128), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    x, labels = batch_of(32, 64, seed=seed)
    assert module(model.to(dtype), cross_entropy, (x.to(dtype), labels), seed=seed).verdict != "fail"


def test_number_of_directions_follows_from_the_miss_probability():
    assert directions_for(1e-6) == 6
    assert directions_for(1e-3) == 3
    with pytest.raises(ValueError, match="miss_probability"):
        module(nn.Linear(2, 2), cross_entropy, batch_of(2, 2, classes=2), miss_probability=0.0)


def test_error_of_ten_bounds_is_missed_as_rarely_as_stated():
    """Gaussian directions against a fixed error of the gradient, without a model in between."""
    generator = torch.Generator().manual_seed(0)
    error = torch.randn(50, generator=generator, dtype=torch.float64)
    shown = (torch.randn(20_000, 50, generator=generator, dtype=torch.float64) @ error).abs()
    missed = float((shown <= error.norm() / 10).double().mean())
    assert missed == pytest.approx(0.0797, abs=0.006)
    assert missed ** directions_for(1e-6) < 1e-6


@pytest.mark.parametrize(
    ("model", "loss", "message"),
    [
        (nn.Linear(4, 3).requires_grad_(False), cross_entropy, "no trainable parameter"),
        (nn.Linear(4, 3), lambda model, batch: model(batch[0]), r"returns a tensor of shape \(5, 3\), not one scalar"),
        (nn.Linear(4, 3), lambda model, batch: 1.0, "returns no floating-point tensor"),
    ],
)
def test_what_cannot_be_checked_says_why(model, loss, message):
    with pytest.raises(CheckInputError, match=message):
        module(model, loss, batch_of(5, 4, classes=3))


def test_a_loss_of_outputs_and_targets_is_told_how_to_be_given():
    model, batch = nn.Linear(3, 2), (torch.randn(4, 3), torch.randint(0, 2, (4,)))
    both = (accumulation, module, overfit)
    for checked in both:
        with pytest.raises(CheckInputError, match=r"called as loss_fn\(model, batch\)"):
            checked(model, F.cross_entropy, batch)
    module(model, cross_entropy, batch).assert_ok()

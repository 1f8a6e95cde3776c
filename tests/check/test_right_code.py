"""Right code is never blamed for gradkit's own replays, and what is wrong is told as what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradkit.check
from gradkit.check import CheckInputError, function, gradients, module


def vector(size=5, dtype=torch.float32, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_reverse(fn, inputs, **settings):
    return gradients(fn, inputs, methods=("reverse",), **settings)


def line_of(result, subject):
    return next(line for line in result if line.subject.startswith(subject))


# Functions that hold something of a fixed dtype: they run in float64, their backward passes do not.
TARGETS = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5])


class Keyed(torch.autograd.Function):
    """A kernel looked up by dtype, for the backward pass only."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return {torch.float32: torch.exp}[x.dtype](x) * grad


class Asserting(Keyed):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        assert x.dtype is torch.float32, "float32 only"
        return x.exp() * grad


FIXED_IN_FLOAT32 = {
    "huber loss of a closure": lambda x: F.huber_loss(x, TARGETS),
    "huber loss of a closure with a weight": lambda x: (F.huber_loss(x, TARGETS, reduction="none") * x).sum(),
    "backward by a table of dtypes": lambda x: Keyed.apply(x).sum(),
    "backward that asserts its dtype": lambda x: Asserting.apply(x).sum(),
}


@pytest.mark.parametrize("name", FIXED_IN_FLOAT32)
def test_backward_that_runs_in_float32_only_is_compared_there(name):
    result = by_reverse(FIXED_IN_FLOAT32[name], (vector(),))
    result.assert_ok()
    assert result.settings["reference_dtype"] == "float32"
    assert "the backward pass does not run in float64" in result.notes[0]


@pytest.mark.parametrize("name", FIXED_IN_FLOAT32)
def test_backward_that_does_not_run_in_the_dtype_asked_for_is_no_fault_of_the_code(name):
    with pytest.raises(CheckInputError, match="runs in float32 and not in float64, which was asked for") as caught:
        by_reverse(FIXED_IN_FLOAT32[name], (vector(),), dtype=torch.float64)
    assert "\n" not in str(caught.value)


def test_gradient_by_hand_of_a_fixed_dtype_is_compared_in_the_finest_it_runs_in():
    weight = torch.eye(5)
    result = gradients(lambda x: (x @ weight.to(x)).sum(), (vector(),), lambda x: torch.ones(5) @ weight @ torch.eye(5))
    result.assert_ok()

    def by_hand(x):
        return torch.ones(5) @ (weight @ x.diag()) / x

    gradients(lambda x: x.sum(), (vector(),), by_hand, methods=("manual",)).assert_ok()


def only(dtype, kernel=torch.sin, slope=torch.cos):
    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if x.dtype is not dtype:
                raise TypeError(f"{dtype} only")
            ctx.save_for_backward(x)
            return kernel(x)

        @staticmethod
        def backward(ctx, grad):
            return grad * slope(ctx.saved_tensors[0])

    return Kernel


class ByNumpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(np.sin(x.detach().numpy()))

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(np.cos(x.detach().numpy())) * grad


@pytest.mark.parametrize(
    ("custom", "dtype"), [(only(torch.float32), torch.float64), (ByNumpy, torch.bfloat16)], ids=["float32", "numpy"]
)
def test_forward_that_does_not_run_in_the_dtype_asked_for_is_one_line(custom, dtype):
    with pytest.raises(CheckInputError, match=r"does not run in .*, which dtype=.* asked for: TypeError") as caught:
        function(custom, (vector(),), dtype=dtype, order=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_kernel_of_one_coarse_dtype_never_fails_and_says_what_ran(dtype, seed):
    result = by_reverse(only(dtype).apply, (vector(5, dtype, seed),), cotangent="random")
    name = str(dtype).removeprefix("torch.")
    # Eleven bits are enough for some points, eight for none of these.
    assert result.verdict == "inconclusive" or (result.verdict == "pass" and dtype is torch.float16)
    assert result.verdict == "pass" or f"{name} is the finest dtype it ran in" in result.lines[0].reason
    assert "finer dtype" not in str(result)


def test_kernel_of_one_coarse_dtype_is_judged_by_a_reference_that_runs_in_a_finer_one():
    x = vector(5, torch.bfloat16)
    by_reverse(only(torch.bfloat16).apply, (x,), cotangent="random", reference=torch.sin).assert_ok()
    wrong = only(torch.bfloat16, slope=lambda x: -x.cos())
    result = by_reverse(wrong.apply, (x,), cotangent="random", reference=torch.sin)
    assert result.verdict == "fail"
    assert "wrong in bfloat16, the finest dtype it ran in" in result.lines[0].reason


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant, noisy=False, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 1)
        self.drop = nn.Dropout(dropout)
        self.reentrant, self.noisy, self.sign = reentrant, noisy, 1.0

    def part(self, h):
        h = self.norm(self.first(h)).tanh()
        return self.drop(h + torch.randn_like(h) if self.noisy else h)

    def forward(self, x):
        if self.reentrant:
            x = x.clone().requires_grad_()
        return self.last(checkpoint(self.part, x, use_reentrant=self.reentrant)) * self.sign


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("more", [{}, {"noisy": True}, {"dropout": 0.5}], ids=str)
def test_model_with_checkpoints_is_compared_in_float64(reentrant, more):
    model = Checkpointed(reentrant=reentrant, **more)
    result = module(model, lambda m, x: m(x).square().mean(), torch.randn(6, 4))
    result.assert_ok()
    assert result.settings["reference_dtype"] == "float64"
    assert not result.notes
    assert all(each.grad is None for each in model.parameters())


class Flipped(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: x.clone())
    backward = staticmethod(lambda ctx, grad: -grad)


@pytest.mark.parametrize("reentrant", [False, True])
def test_wrong_gradient_behind_a_checkpoint_is_found(reentrant):
    model = Checkpointed(reentrant=reentrant)
    model.norm = nn.Sequential(model.norm)
    model.norm.register_forward_hook(lambda m, a, out: Flipped.apply(out))
    result = module(model, lambda m, x: m(x).square().mean(), torch.randn(6, 4))
    assert result.verdict == "fail"
    named = " ".join(line.subject for line in result)
    assert "first.weight" in named
    assert "last" not in named


def test_reentrant_checkpoint_over_tensors_of_the_users_own_is_inconclusive_and_fills_no_gradient():
    layer = nn.Linear(5, 5)
    result = by_reverse(lambda x: checkpoint(layer, x, use_reentrant=True).sum(), (vector().requires_grad_(),))
    assert result.verdict == "inconclusive"
    assert "use_reentrant=False" in result.lines[0].reason
    assert layer.weight.grad is None


def raw(write):
    class Raw(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            write(x)
            ctx.save_for_backward(x)
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * (ctx.saved_tensors[0] > 0)

    return Raw


WRITERS = {
    "data": lambda x: x.data.clamp_(min=0),
    "numpy": lambda x: np.maximum(x.detach().numpy(), 0, out=x.detach().numpy()),
    "storage": lambda x: torch.empty(0, dtype=x.dtype).set_(x.untyped_storage()).clamp_(min=0),
    "undeclared": lambda x: x.clamp_(min=0),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_forward_that_overwrites_its_input_fails_whatever_autograd_noticed(writer):
    result = function(raw(WRITERS[writer]), (vector(dtype=torch.float64),), order=1)
    line = line_of(result, "inputs left as they were")
    assert line.verdict == "fail"
    assert "input 0" in line.reason
    assert {each.rule for each in result.findings} == {"GK601"}


def test_input_that_no_gradient_is_asked_of_may_be_a_place_to_write_to():
    def centred(x, mean):
        mean.data.copy_(x.detach().mean())
        return (x - x.mean()).square().sum()

    result = by_reverse(centred, (vector().requires_grad_(), torch.zeros(())))
    result.assert_ok()
    assert "changes input leaf 1 in place" in result.notes[0]


class InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x.clamp_(min=0)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0] > 0)


class InPlaceWrong(InPlace):
    backward = staticmethod(lambda ctx, grad: grad)


def test_function_that_declares_its_change_is_checked_on_a_copy_of_the_leaf():
    x = vector(6).requires_grad_()
    result = function(InPlace, (x,))
    result.assert_ok()
    assert "mark_dirty" in result.notes[0]
    assert x._version == 0
    by_reverse(lambda x: InPlace.apply(x).sum(), (x,)).assert_ok()
    assert function(InPlaceWrong, (x,), order=1).verdict == "fail"


def sine(write):
    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx, grad):
            return write(ctx.saved_tensors[0], grad)

    return Sine


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_backward_that_writes_into_its_cotangent_is_told_by_that_alone(dtype):
    result = function(sine(lambda x, grad: grad.mul_(x.cos())), (vector(),), dtype=dtype, order=1)
    assert [line.subject for line in result if line.verdict == "fail"] == ["cotangent left as it was"]
    assert "saved" not in str(result)


def test_backward_that_draws_its_own_numbers_is_told_by_that_alone():
    class Drop(torch.autograd.Function):
        forward = staticmethod(lambda ctx, x: x * (torch.rand_like(x) > 0.5) * 2)
        backward = staticmethod(lambda ctx, grad: grad * (torch.rand_like(grad) > 0.5) * 2)

    result = function(Drop, (vector(12),), order=1)
    failed = {line.subject: line for line in result if line.verdict == "fail"}
    assert set(failed) == {"reverse, input 0", "backward called twice"}
    assert all("draws random numbers itself (generator: cpu)" in line.reason for line in failed.values())


def test_backward_that_overwrites_what_was_saved_is_told_by_that_alone():
    def write(x, grad):
        found = grad * x.cos()
        x.data.mul_(2)
        return found

    # The saved tensor is the input itself here.
    result = function(sine(write), (vector(dtype=torch.float64),), order=1)
    (failed,) = [line for line in result if line.verdict == "fail"]
    assert failed.subject == "backward called twice"
    assert "overwrites a tensor that the forward pass saved" in failed.reason


def test_causes_that_were_not_found_out_are_listed_and_not_stated():
    class Counting(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.calls = 0
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            ctx.calls += 1
            return grad * ctx.calls

    line = line_of(function(Counting, (vector(),), order=1), "backward called twice")
    assert line.verdict == "fail"
    assert line.reason.startswith("The second call gave another gradient. ")
    assert line.advice.startswith("What may cause it")


class Rounded(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: x.round())
    backward = staticmethod(lambda ctx, grad: grad)


class Reversed(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: x.view_as(x))
    backward = staticmethod(lambda ctx, grad: -0.5 * grad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("custom", "meant"), [(Rounded, lambda x: x), (Reversed, lambda x: -0.5 * x)], ids=["straight-through", "reversal"]
)
def test_backward_that_is_meant_to_differ_is_declared_by_a_reference(custom, meant, dtype):
    assert function(custom, (vector(),), dtype=dtype, order=1).verdict == "fail"
    function(custom, (vector(),), dtype=dtype, reference=meant).assert_ok()
    by_reverse(custom.apply, (vector(),), dtype=dtype, cotangent="random", reference=meant).assert_ok()
    assert function(custom, (vector(),), dtype=dtype, order=1, reference=lambda x: 2 * x).verdict == "fail"


def test_sparse_gradients_are_compared_as_dense_ones():
    places = torch.tensor([0, 1, 1])
    by_reverse(lambda w: F.embedding(places, w, sparse=True).square().sum(), (torch.randn(3, 2),)).assert_ok()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Linear(4, 1))
    module(model, lambda m, ids: m(ids).square().mean(), torch.tensor([[0, 1, 1], [5, 2, 0]])).assert_ok()


def test_function_that_raises_beside_the_point_is_inconclusive_with_what_it_raised():
    def logarithm(x):
        if bool((x < 1).any()):
            raise ValueError("x below 1")
        return x.log().sum()

    result = by_reverse(logarithm, (torch.ones(2, dtype=torch.float64),))
    assert result.verdict == "inconclusive"
    assert "raised ValueError: x below 1" in result.lines[0].reason


def test_replay_that_raises_is_inconclusive_and_never_a_fault():
    def symmetric(x):
        product = x @ x.T
        if not torch.equal(product * 3, product + 2 * product):
            raise ArithmeticError("rounding")
        return product.sum()

    exact = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    result = by_reverse(symmetric, (exact,))
    assert result.verdict == "inconclusive"
    assert "ArithmeticError: rounding" in str(result)


def test_function_that_draws_from_a_generator_nobody_can_put_back_is_inconclusive():
    own = np.random.default_rng(0)
    result = by_reverse(lambda x: (x * torch.from_numpy(own.random(5)).to(x)).sum(), (vector(),))
    assert result.verdict == "inconclusive"
    assert "Two calls with the same inputs" in str(result)
    by_torch = torch.Generator().manual_seed(0)
    by_reverse(lambda x: (x * torch.rand(5, generator=by_torch).to(x)).sum(), (vector(),)).assert_ok()


def test_backward_that_cannot_be_differentiated_is_inconclusive_at_second_order():
    slope = sine(lambda x, grad: torch.from_numpy(np.cos(x.detach().numpy()) * grad.numpy()))
    result = function(slope, (vector(dtype=torch.float64),))
    assert [line.verdict for line in result if line.subject.startswith("second order")] == ["inconclusive"]
    assert result.verdict == "inconclusive"


def test_reentrant_checkpoints_and_frozen_parameters_leave_the_model_as_it_was():
    model = Checkpointed(reentrant=True)
    model.first.requires_grad_(False)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    gradkit.check.module(model, lambda m, x: m(x).square().mean(), torch.randn(6, 4)).assert_ok()
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_model_that_computes_a_buffer_from_its_parameters_is_checked_in_eval_mode():
    torch.manual_seed(0)
    normed = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 8), n_power_iterations=1)
    model = nn.Sequential(normed, nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    batch = torch.randn(6, 4)
    result = module(model, lambda m, x: m(x).square().mean(), batch)
    assert result.verdict == "inconclusive"
    assert "parametrizations.weight" in result.lines[0].reason
    assert "running_mean" not in result.lines[0].reason
    module(model.eval(), lambda m, x: m(x).square().mean(), batch).assert_ok()
    normed.register_forward_hook(lambda m, a, out: Flipped.apply(out))
    assert module(model, lambda m, x: m(x).square().mean(), batch).verdict == "fail"

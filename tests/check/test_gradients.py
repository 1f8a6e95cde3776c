"""`gradients`: right functions pass, wrong ones fail, and what cannot be checked says so in one line."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch
import torch.nn.functional as F

from gradkit.check import CheckFailedError, CheckInputError, gradients

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def vector(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        factor = x.cos()
        factor[1] = -factor[1]
        return grad * factor


RIGHT = {
    "softmax": lambda x: (F.softmax(x, -1) * torch.arange(5).to(x)).sum(),
    "layer norm": lambda x: F.layer_norm(x, (5,)).pow(3).sum(),
    "standard deviation": lambda x: (x - x.mean()).div(x.std()).pow(3).mean(),
    "matrix product": lambda x: (x @ x.T).tanh().sum(),
    "logsumexp": lambda x: torch.logsumexp(x, -1).sum(),
    "cancelling": lambda x: (x.exp() - 1).sum(),
    "tiny outputs": lambda x: F.logsigmoid(20 * x).sum(),
    "maximum": lambda x: x.max(),
    "running sum": lambda x: x.cumsum(-1).sin().sum(),
    "norm": lambda x: x.norm(),
    "float32 inside": lambda x: (x.float() * 1.5).sin().to(x.dtype).sum(),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RIGHT)
def test_right_function_passes_in_every_dtype(name, dtype):
    result = gradients(RIGHT[name], vector(4, 5), dtype=dtype)
    result.assert_ok()
    assert not result.findings


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_wrong_sign_of_one_element_fails_at_its_index(dtype):
    result = gradients(lambda x: Wrong.apply(x).sum(), vector(4), dtype=dtype, methods=("reverse",))
    (line,) = result.lines
    assert line.verdict == "fail"
    assert line.measured["index"] == (1,)
    assert result.findings[0].rule == "GK601"
    with pytest.raises(CheckFailedError, match=r"at \(1,\) where the derivative is"):
        result.assert_ok()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_error_of_one_part_in_a_million_of_the_formula_fails_in_every_dtype(dtype):
    result = gradients(
        lambda x: (x**2).sum(), vector(3), lambda x: 2 * x * (1 + 1e-6), dtype=dtype, methods=("manual",)
    )
    assert result.verdict == "fail"
    assert result.lines[0].measured["kind"] == "formula"


def test_formula_that_is_only_wrong_in_one_dtype_fails_there():
    def by_hand(x):
        return 2 * x * (1.01 if x.dtype is torch.float32 else 1)

    for dtype, verdict in ((torch.float64, "pass"), (torch.float32, "fail")):
        result = gradients(lambda x: (x**2).sum(), vector(3), by_hand, dtype=dtype, methods=("manual",))
        assert result.verdict == verdict
    assert result.lines[0].measured["kind"] == "rounding"


def test_second_order_finds_a_detached_factor_that_first_order_cannot_see():
    class Cube(torch.autograd.Function):
        right = True

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 3 * (x * x if Cube.right else x * x.detach())

    def fn(x):
        return Cube.apply(x).sum()

    for right in (True, False):
        Cube.right = right
        assert gradients(fn, vector(3), methods=("reverse",)).ok
        assert gradients(fn, vector(3), methods=("reverse",), order=2).ok is right


def test_second_order_of_smooth_functions_passes_by_both_modes():
    result = gradients(
        lambda x, y: (x.sin() * y.exp()).sum(), (vector(3), vector(3, seed=1)), order=2, dtype=torch.float32
    )
    result.assert_ok()
    assert any(line.subject.startswith("forward") and line.verdict == "pass" for line in result)


def test_nested_inputs_several_outputs_integers_and_other_values():
    def fn(tree, labels, scale):
        a, b = tree["a"], tree["b"][0]
        return {"loss": (a * b).sum() * scale, "top": a.argmax(), "more": (b**2, labels)}

    inputs = ({"a": vector(3), "b": [vector(3, seed=1)]}, torch.tensor([1, 2]), 2.5)
    result = gradients(fn, inputs, cotangent="random")
    result.assert_ok()
    assert [line.subject for line in result][:2] == ["reverse, input 0['a']", "reverse, input 0['b'][0]"]


def test_only_what_requires_a_gradient_is_differentiated_when_anything_does():
    x, y = vector(3).requires_grad_(), vector(3, seed=1)
    result = gradients(lambda x, y: (x * y).sum(), (x, y), lambda x, y: y)
    result.assert_ok()
    assert [line.subject for line in result] == ["manual, input 0", "reverse, input 0", "forward, every element"]


@pytest.mark.parametrize(
    "point", [vector(6, 4)[::2, ::2], vector(3, 2).T, vector(1, 3).expand(2, 3), vector(0, 3), vector(2)[0]]
)
def test_strides_and_sizes_of_every_kind(point):
    result = gradients(lambda x: (x.sin() * 2).sum(), point, lambda x: 2 * x.cos(), dtype=torch.float32)
    result.assert_ok()


def test_large_inputs_are_checked_along_random_directions():
    point = vector(40, 40)
    result = gradients(lambda x: x.sin().sum(), point, lambda x: x.cos(), dtype=torch.float32)
    result.assert_ok()
    assert result.settings["evaluations"] < 200

    def one_wrong(x):
        found = x.cos()
        found[17, 3] = -found[17, 3]
        return found

    assert gradients(lambda x: x.sin().sum(), point, one_wrong, dtype=torch.float32).verdict == "fail"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_random_numbers_inside_are_the_same_in_every_evaluation(dtype):
    def noisy(x):
        return (F.dropout(x, 0.5) * torch.randn_like(x) * random.random()).pow(2).sum()

    python, state = random.getstate(), torch.get_rng_state()
    gradients(noisy, vector(10), dtype=dtype).assert_ok()
    assert random.getstate() == python
    assert torch.equal(torch.get_rng_state(), state)


def test_gradient_that_changes_by_itself_is_noticed():
    calls = iter(range(1000))

    class Drifting(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * (2 + next(calls))

    result = gradients(lambda x: Drifting.apply(x).sum(), vector(3), methods=("reverse",))
    assert "GK606" in {each.rule for each in result.findings}
    assert not result.ok


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_corner_at_the_point_is_inconclusive_but_a_value_outside_of_it_fails(dtype):
    point = torch.tensor([0.0, 1.0])
    result = gradients(lambda x: x.relu().sum(), point, dtype=dtype, methods=("reverse",))
    assert result.verdict == "inconclusive"
    assert "0 from below and 1 from above" in result.lines[0].reason
    wrong = gradients(
        lambda x: x.relu().sum(), point, lambda x: torch.full_like(x, 5.0), dtype=dtype, methods=("manual",)
    )
    assert wrong.verdict == "fail"


def test_severed_output_fails_instead_of_being_skipped():
    result = gradients(lambda x: (x.detach() ** 2).sum(), vector(3), methods=("reverse",))
    assert result.verdict == "fail"
    assert "no output carries a graph" in result.notes[0]


def test_function_that_runs_in_one_dtype_only_is_checked_in_that():
    weight = vector(3, 4).float()
    result = gradients(
        lambda x: (x @ weight).sin().sum(), vector(2, 3).float(), dtype=torch.float32, methods=("reverse",)
    )
    assert result.settings["reference_dtype"] == "float32"
    assert "does not run in float64" in result.notes[0]
    result.assert_ok()


def test_missing_forward_mode_is_skipped_and_wrong_forward_mode_fails():
    class Twice(torch.autograd.Function):
        factor = 2.0

        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

        @staticmethod
        def jvp(ctx, tangent):
            return tangent * Twice.factor

    class Without(torch.autograd.Function):
        forward = staticmethod(lambda ctx, x: x * 2)
        backward = staticmethod(lambda ctx, grad: grad * 2)

    def forward_line(fn):
        return gradients(lambda x: fn.apply(x).sum(), vector(5), dtype=torch.float32).lines[-1]

    assert forward_line(Without).verdict == "skipped"
    assert forward_line(Twice).verdict == "pass"
    Twice.factor = -2.0
    assert forward_line(Twice).verdict == "fail"


def test_backward_of_the_wrong_shape_is_a_failed_line_not_a_traceback():
    class Short(torch.autograd.Function):
        forward = staticmethod(lambda ctx, x: x * 2)
        backward = staticmethod(lambda ctx, grad: grad[:1])

    result = gradients(lambda x: Short.apply(x).sum(), vector(5), methods=("reverse",))
    assert result.verdict == "fail"
    assert "invalid gradient" in result.lines[0].reason


def changes_its_input(x):
    x += 1
    return x.sum()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gradients(lambda x: x.sin(), vector(3)),
            r"returns a tensor of shape \(3,\), not one scalar; give cotangent",
        ),
        (
            lambda: gradients(lambda x: x.sum(), vector(3), lambda x: x[:2]),
            r"hand-written gradient of input has shape \(2,\), expected \(3,\)",
        ),
        (lambda: gradients(lambda x: x.sum(), vector(3), lambda x: (x, x)), r"has 2 part\(s\), expected 1"),
        (lambda: gradients(lambda x: x.sum(), vector(3), lambda x: "no"), "is a str, expected a tensor"),
        (lambda: gradients(changes_its_input, vector(3)), "changes (its )?input"),
        (lambda: gradients(lambda x: x.mul_(2).sum() if not x.requires_grad else x.sum(), vector(3)), "in place"),
        (lambda: gradients(lambda x: x, torch.tensor([1, 2])), "no floating-point tensor"),
        (
            lambda: gradients(lambda x: x.argmax(), vector(3)),
            "returns no floating-point tensor, only a tensor of int64",
        ),
        (lambda: gradients(lambda x: x.sum(), vector(3).to(torch.complex64)), "complex64 cannot be checked"),
        (
            lambda: gradients(lambda x: x.sin(), vector(3), cotangent=vector(2)),
            r"expected a tensor of shape \(3,\), got",
        ),
        (lambda: gradients(lambda x: x.sin(), vector(3), cotangent="ones"), 'expected a tensor or "random"'),
        (
            lambda: gradients(lambda x: x.sum(), vector(3), reference=lambda x: x, cotangent=None),
            "not one scalar",
        ),
    ],
)
def test_what_cannot_be_checked_says_why_in_one_line(call, message):
    with pytest.raises(CheckInputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ("revers",)}, "Did you mean 'reverse'"),
        ({"methods": "reverse"}, "expected a sequence"),
        ({"methods": ("differences",)}, "nothing to compare"),
        ({"order": 3}, "expected 1 or 2"),
        ({"replays": 1}, "at least 4"),
        ({"false_alarm": 0.0}, "probability"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        gradients(lambda x: x.sum(), vector(3), **arguments)


def test_result_has_a_table_a_dictionary_and_both_assertions():
    result = gradients(lambda x: (x**2).sum(), vector(3), lambda x: 2 * x, dtype=torch.float32, name="square")
    assert result.table().row_count == len(result.lines) == 3
    data = json.loads(json.dumps(result.to_dict()))
    assert data["verdict"] == "pass"
    assert {"max_abs", "max_rel", "max_ulp", "index", "bound"} <= set(data["lines"][0])
    assert data["lines"][0]["max_ulp"] <= 1
    corner = gradients(lambda x: x.relu().sum(), torch.zeros(2), methods=("reverse",))
    corner.assert_ok(allow_inconclusive=True)
    with pytest.raises(AssertionError, match="corner"):
        corner.assert_ok()


def test_nothing_the_user_passed_is_changed():
    x = vector(3).requires_grad_()
    x.grad = torch.ones(3, dtype=torch.float64)
    before = x.detach().clone()
    gradients(lambda x: (x**2).sum(), x, lambda x: 2 * x, dtype=torch.float32)
    assert torch.equal(x.detach(), before)
    assert torch.equal(x.grad, torch.ones(3, dtype=torch.float64))
    assert x._version == 0


def test_non_finite_result_names_the_operator():
    result = gradients(
        lambda x: torch.log(x.exp()).sum(), torch.tensor([20.0]), dtype=torch.float16, methods=("reverse",)
    )
    assert result.verdict == "fail"
    assert "`exp` gave inf" in result.lines[0].reason
    assert math.isnan(result.lines[0].measured["value"])


def test_device_that_is_not_there_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CheckInputError, match="no CUDA device"):
        gradients(lambda x: x.sum(), vector(3), device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_verdicts_on_the_gpu(dtype):
    gradients(RIGHT["matrix product"], vector(4, 5), dtype=dtype, device="cuda").assert_ok()

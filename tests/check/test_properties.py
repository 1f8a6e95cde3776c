"""Verified properties of a training step: each fault fails with its rule and reason, its repaired twin passes."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradkit.check import CheckInputError, accumulation, batch_independence, causality, function, inference, overfit


def cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def token_loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], ignore_index=-100)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 6, generator=generator), torch.randint(3, (12,), generator=generator)


def network(*middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), *middle, nn.Tanh(), nn.Linear(8, 3))


def rules(result):
    json.dumps(result.to_dict())
    assert result.table().row_count == len(result.lines)
    return [each.rule for each in result.findings]


class TestAccumulation:
    def test_equal_parts_of_a_mean_agree_and_dropout_is_switched_off(self, batch):
        result = accumulation(network(nn.Dropout(0.5)), cross_entropy, batch, micro_batches=3)
        result.assert_ok()
        assert result.notes == ["dropout was switched off: 1."]

    def test_unequal_parts_need_their_shares_of_the_samples(self, batch):
        wrong = accumulation(network(), cross_entropy, batch, micro_batches=5)
        assert rules(wrong) == ["GK602"]
        assert "shares of the samples" in wrong.lines[0].reason
        accumulation(network(), cross_entropy, batch, micro_batches=5, weights=lambda part: len(part[1])).assert_ok()

    def test_token_means_need_their_shares_of_the_tokens(self, batch):
        labels = batch[1].clone()
        labels[[0, 1, 2, 7]] = -100
        wrong = accumulation(network(), token_loss, (batch[0], labels), micro_batches=3)
        assert rules(wrong) == ["GK602"]
        assert "tokens" in wrong.lines[0].reason
        weights = [float((part != -100).sum()) / 8 for part in labels.chunk(3)]
        accumulation(network(), token_loss, (batch[0], labels), micro_batches=3, weights=weights).assert_ok()

    def test_sum_needs_no_division(self, batch):
        def summed(model, part):
            return F.cross_entropy(model(part[0]), part[1], reduction="sum")

        wrong = accumulation(network(), summed, batch)
        assert "the loss is a sum" in wrong.lines[0].reason
        accumulation(network(), summed, batch, weights=[1.0] * 4).assert_ok()

    def test_batch_normalization_is_named_and_group_normalization_passes(self, batch):
        wrong = accumulation(network(nn.BatchNorm1d(8)), cross_entropy, batch)
        assert rules(wrong) == ["GK602"]
        assert "The reason is batch normalization (1)" in wrong.lines[0].reason
        accumulation(network(nn.GroupNorm(2, 8)), cross_entropy, batch).assert_ok()

    def test_loss_that_couples_samples_is_told_from_wrong_weights(self, batch):
        result = accumulation(network(), lambda model, part: model(part[0]).var(), batch)
        assert "no sum over samples" in result.lines[0].reason

    @pytest.mark.parametrize("divide", [True, False])
    def test_loop_of_the_users_own(self, batch, divide):
        def step(model, parts):
            for part in parts:
                (cross_entropy(model, part) / (len(parts) if divide else 1)).backward()

        result = accumulation(network(), cross_entropy, batch, step=step)
        assert result.ok is divide
        if not divide:
            assert "Divide each loss by the number of micro-batches" in result.lines[0].advice

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"micro_batches": 13}, "between 1 and 12"),
            ({"micro_batches": []}, "at least one part"),
            ({"weights": [1.0]}, "expected 4, one per micro-batch"),
            ({"step": lambda model, parts: None}, "no parameter has a gradient"),
        ],
    )
    def test_bad_arguments(self, batch, arguments, message):
        with pytest.raises(CheckInputError, match=message):
            accumulation(network(), cross_entropy, batch, **arguments)


class TestInference:
    def test_five_modes_agree_and_only_tracking_saves_tensors(self, batch):
        model = network(nn.BatchNorm1d(8), nn.Dropout(0.5))
        before = copy.deepcopy(model.state_dict())
        result = inference(model, batch[0])
        result.assert_ok()
        saved = {line.subject: line.measured["saved_bytes"] for line in result}
        assert saved.pop("tracked") > 0
        assert set(saved) == {"no_grad", "inference_mode", "detach", "requires_grad_false"}
        assert set(saved.values()) == {0}
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_other_kernels_are_told_from_other_outputs(self):
        torch.manual_seed(0)
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)
        inference(encoder, torch.randn(2, 5, 16)).assert_ok()

    def test_code_that_asks_for_the_mode_is_found(self, batch):
        class Asking(nn.Linear):
            def forward(self, x):
                return super().forward(x) * (2 if torch.is_grad_enabled() else 1)

        result = inference(Asking(6, 2), batch[0])
        assert rules(result) == ["GK605", "GK605"]
        assert {each.evidence["mode"] for each in result.findings} == {"no_grad", "inference_mode"}

    def test_graph_that_is_left_is_found(self, batch):
        class Insisting(nn.Linear):
            def forward(self, x):
                with torch.enable_grad():
                    return super().forward(x)

        result = inference(Insisting(6, 2), batch[0])
        assert {line.subject for line in result if line.verdict == "fail"} == {"no_grad"}
        assert "carry a graph" in result.findings[0].message


class TestIndependence:
    def test_batch_normalization_leaks_in_training_and_not_in_evaluation(self, batch):
        model = network(nn.BatchNorm1d(8))
        leaking = batch_independence(model, batch[0])
        assert rules(leaking) == ["GK603"]
        assert leaking.findings[0].evidence["module"] == "1"
        assert "BatchNorm1d in training mode" in leaking.findings[0].message
        batch_independence(model.eval(), batch[0]).assert_ok()

    def test_view_across_the_batch_is_found(self):
        class Mixed(nn.Module):
            right = True

            def forward(self, x):
                return x.transpose(1, 2) if self.right else x.reshape(x.shape[0], x.shape[2], -1).flip(0)

        model, x = Mixed(), torch.randn(4, 2, 3)
        batch_independence(model, x).assert_ok()
        model.right = False
        assert rules(batch_independence(model, x)) == ["GK603"]

    def test_integers_and_dropout_are_no_leak(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(11, 4), nn.Dropout(0.5), nn.Linear(4, 4))
        batch_independence(model, torch.randint(11, (5, 3))).assert_ok()

    def test_one_sample_is_refused(self):
        with pytest.raises(CheckInputError, match="holds 1 of the samples"):
            batch_independence(nn.Linear(2, 2), torch.randn(1, 2))

    def test_output_without_the_dimension_is_refused(self):
        with pytest.raises(CheckInputError, match="no output has 3 entries along dimension 0"):
            batch_independence(nn.Flatten(0), torch.randn(3, 2))


class TestCausality:
    def encoder(self):
        torch.manual_seed(0)
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0), 2)

    def test_attention_without_its_mask_leaks_and_with_it_does_not(self):
        x, model = torch.randn(2, 6, 16), self.encoder()
        leaking = causality(model, x)
        assert rules(leaking) == ["GK604"]
        assert leaking.findings[0].evidence["module"] == "layers.0.self_attn"

        def masked(model, x):
            return model(x, mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1]).to(x.dtype))

        causality(model, x, forward=masked).assert_ok()

    @pytest.mark.parametrize(("padding", "right"), [((2, 0), True), ((1, 1), False)])
    def test_convolution_padded_on_both_sides_leaks(self, padding, right):
        torch.manual_seed(0)
        model = nn.Sequential(nn.ConstantPad1d(padding, 0.0), nn.Conv1d(3, 4, 3))
        assert causality(model, torch.randn(2, 3, 9), dim=2).ok is right

    def test_recurrence_over_tokens_is_causal_and_both_directions_are_not(self):
        tokens = torch.randint(9, (2, 7))
        for both in (False, True):
            torch.manual_seed(0)
            layers = nn.ModuleDict(
                {"embed": nn.Embedding(9, 4), "run": nn.LSTM(4, 5, batch_first=True, bidirectional=both)}
            )
            result = causality(layers, tokens, forward=lambda m, t: m["run"](m["embed"](t))[0])
            assert result.ok is not both

    def test_long_sequences_are_probed_at_a_few_positions(self):
        assert len(causality(nn.Identity(), torch.randn(1, 200, 2)).lines) == 16


class TestOverfit:
    def test_learnable_batch_passes_and_the_model_stays_as_it_is(self, batch):
        model = network(nn.Dropout(0.1))
        before = copy.deepcopy(model.state_dict())
        overfit(model, cross_entropy, batch).assert_ok()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_double_softmax_cannot_learn(self, batch):
        result = overfit(nn.Sequential(network(), nn.Softmax(-1)), cross_entropy, batch, steps=100)
        assert not result.ok

    def test_severed_parameters_are_named(self, batch):
        class Severed(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

            def forward(self, x):
                return self.second(self.first(x).detach())

        torch.manual_seed(0)
        result = overfit(Severed(), cross_entropy, batch, steps=30, target=0.99)
        reached = next(line for line in result if line.subject == "reached by gradients")
        assert reached.verdict == "fail"
        assert "first.bias, first.weight" in reached.reason

    def test_parameters_left_out_of_the_optimizer_are_named(self, batch):
        result = overfit(
            network(),
            cross_entropy,
            batch,
            steps=30,
            target=0.99,
            optimizer=lambda parameters: torch.optim.SGD(list(parameters)[2:], lr=0.1),
        )
        idle = next(line for line in result if line.subject == "moved by the optimizer")
        assert "0.weight, 0.bias" in idle.reason

    def test_loss_without_a_graph_is_refused(self, batch):
        with pytest.raises(CheckInputError, match="carries no graph"):
            overfit(network(), lambda model, part: model(part[0]).sum().detach(), batch)


class Product(torch.autograd.Function):
    """x @ w and the sum of squares of x, with the faults of the tests switched on one at a time."""

    fault = ""
    calls = 0

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        ctx.buffer = x.clone()
        return x @ w, (x * x).sum()

    @staticmethod
    def backward(ctx, grad, grad_sum):
        x, w = ctx.saved_tensors
        fault = Product.fault
        if fault == "view of the cotangent":
            grad = grad.view(-1).view(grad.shape)
        left = grad @ w.T + 2 * x * grad_sum
        if fault == "overwritten buffer":
            left = left + 0 * ctx.buffer
            ctx.buffer.mul_(2)
            left = grad @ w.T + ctx.buffer * grad_sum
        if fault == "squared cotangent":
            left = left * grad.abs().sum()
        if fault == "constant term":
            left = left + 1
        right = x.T @ grad
        if fault == "needs the other":
            right = right * (1 if ctx.needs_input_grad[0] else 2)
        if fault == "wrong sign":
            right = -right
        return left, right


FAULTS = {
    "view of the cotangent": "strided cotangent",
    "overwritten buffer": "backward called twice",
    "squared cotangent": "twice the cotangent",
    "constant term": "zero cotangent",
    "needs the other": "only input 1 requires a gradient",
    "wrong sign": "reverse, input 1",
}


class TestFunction:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
    def test_right_function_keeps_every_promise(self, dtype):
        Product.fault = ""
        result = function(Product, (torch.randn(3, 4), torch.randn(4, 2)), dtype=dtype)
        result.assert_ok()
        assert not rules(result)
        assert any(line.subject == "second order, reverse, input 0" for line in result)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_fault_is_found_under_its_name(self, fault):
        Product.fault = fault
        try:
            result = function(Product, (torch.randn(3, 4), torch.randn(4, 2)), order=1)
        finally:
            Product.fault = ""
        assert FAULTS[fault] in {line.subject for line in result if line.verdict == "fail"}
        assert set(rules(result)) >= {"GK601"}

    def test_once_differentiable_is_skipped_at_second_order(self):
        class Once(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x.exp()

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx, grad):
                return grad * ctx.saved_tensors[0].exp()

        result = function(Once, torch.randn(4))
        result.assert_ok()
        assert [line.verdict for line in result if line.subject == "second order"] == ["skipped"]

    def test_anything_else_is_refused(self):
        with pytest.raises(CheckInputError, match=r"subclass of torch\.autograd\.Function"):
            function(torch.sin, torch.randn(3))

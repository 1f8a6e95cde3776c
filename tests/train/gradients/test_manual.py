"""The hand-derived gradient equals autograd's, without autograd: values, accumulation, random masks, statistics."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.overrides import TorchFunctionMode

from gradkit.errors import ConfigError
from gradkit.train.gradients import build_gradient
from gradkit.train.loop.losses import build_loss
from gradkit.train.models import build_model
from gradkit.train.schema.models import (
    CnnDigitsModel,
    CustomLoss,
    DeepSigmoidModel,
    GradientConfig,
    LogisticModel,
    LossConfig,
    MlpModel,
    NotebookModel,
)
from tests.train.gradients.cases import LOSSES, MODELS, batch, gradients, make


class _NoGraph(TorchFunctionMode):
    """Fails on the first result that autograd would track."""

    calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, torch.Tensor):
                self.calls += 1
                assert value.grad_fn is None, f"{func} built a graph"
        return result


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_training_by_hand_creates_no_graph_and_never_enters_the_engine(
    model: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, method = make(MODELS[model], LOSSES[loss], "manual", features=3, dtype=torch.float32)
    x, y = batch(8, 3, torch.float32)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    before = [p.clone() for p in module.parameters()]

    def engine(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("autograd's engine was called")

    monkeypatch.setattr("torch.autograd.graph._engine_run_backward", engine)
    monkeypatch.setattr("torch.autograd._engine_run_backward", engine)
    with pytest.raises(AssertionError, match="engine"):
        (torch.ones((), requires_grad=True) * 2).backward()  # the trap works
    with _NoGraph() as mode, torch.autograd.graph.saved_tensors_hooks(engine, engine):
        value = method.forward(x, y)
        method.backward(value, 1.0)
    assert mode.calls > 5
    assert not value.requires_grad
    assert not method.builds_graph
    assert all(p.grad is not None and not p.grad.requires_grad for p in module.parameters())
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_the_trap_for_graphs_catches_autograd() -> None:
    _, method = make(MODELS["logistic"], LossConfig(), "autograd", features=3, dtype=torch.float32)
    with pytest.raises(AssertionError, match="built a graph"), _NoGraph():
        method.forward(*batch(8, 3, torch.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_loss_gradient_and_statistics_equal_autograds_over_two_micro_batches(
    model: str, loss: str, dtype: torch.dtype
) -> None:
    results = []
    for name in ("autograd", "manual"):
        module, method = make(MODELS[model], LOSSES[loss], name, features=3, dtype=dtype)
        torch.manual_seed(5)  # one stream of dropout masks for each method
        losses = []
        for samples, share in ((12, 0.75), (4, 0.25)):
            losses.append(method.forward(*batch(samples, 3, dtype, seed=samples)))
            method.backward(losses[-1], share)
        results.append((torch.stack(losses).detach(), gradients(module), dict(module.named_buffers()), torch.rand(3)))
    (loss_a, grad_a, buffers_a, next_a), (loss_m, grad_m, buffers_m, next_m) = results
    # Sums of at most 12 products of numbers of order 1, through at most 4 layers: 100 roundings are ample.
    bound = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(loss_m, loss_a, rtol=bound, atol=bound)
    assert grad_m.keys() == grad_a.keys()
    for parameter, expected in grad_a.items():
        torch.testing.assert_close(grad_m[parameter], expected, rtol=bound, atol=bound, msg=parameter)
        assert expected.abs().max() > 1e-6, "a gradient of zero would agree with anything"
    for buffer, expected in buffers_a.items():
        assert torch.equal(buffers_m[buffer], expected), buffer
    assert torch.equal(next_m, next_a), "dropout drew a different number of random numbers"


@settings(max_examples=150, deadline=None)
@given(
    samples=st.integers(2, 40),
    features=st.integers(1, 12),
    hidden=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    activation=st.sampled_from(["relu", "tanh", "sigmoid"]),
    batch_norm=st.booleans(),
    dropout=st.sampled_from([0.0, 0.25, 0.7]),
    loss=st.sampled_from(["bce_with_logits", "bce_on_probabilities", "textbook"]),
    pos_weight=st.sampled_from([None, 0.2, 4.0]),
    smoothing=st.sampled_from([0.0, 0.1]),
    kind=st.sampled_from(["mlp", "logistic", "notebook"]),
    training=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_setting_agrees_in_float64(
    samples: int,
    features: int,
    hidden: list[int],
    activation: str,
    batch_norm: bool,
    dropout: float,
    loss: str,
    pos_weight: float | None,
    smoothing: float,
    kind: str,
    training: bool,
    seed: int,
) -> None:
    model = {
        "mlp": MlpModel(hidden=hidden, activation=activation, dropout=dropout, batch_norm=batch_norm),
        "logistic": LogisticModel(),
        "notebook": NotebookModel(feature=features - 1),
    }[kind]
    config = LossConfig(name=loss, pos_weight=pos_weight, label_smoothing=smoothing, l2=0.01)
    x, y = batch(samples, features, torch.float64, seed=seed)
    found = []
    for name in ("autograd", "manual"):
        module, method = make(model, config, name, features=features, dtype=torch.float64, seed=seed)
        module.train(training)
        torch.manual_seed(seed)
        value = method.forward(x, y)
        method.backward(value, 1.0)
        found.append((value.detach(), gradients(module)))
    # Dividing by the spread of two nearly equal samples (batch norm) amplifies roundings up to 1 / sqrt(eps) = 300.
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-9, atol=1e-10)


@settings(max_examples=100, deadline=None)
@given(
    logit=st.floats(-1e4, 1e4),
    target=st.sampled_from([0.0, 1.0]),
    wide=st.booleans(),
    pos_weight=st.sampled_from([None, 2.0]),
)
def test_with_logits_stays_exact_at_any_saturation(
    logit: float, target: float, wide: bool, pos_weight: float | None
) -> None:
    dtype = torch.float64 if wide else torch.float32
    module, method = make(LogisticModel(), LossConfig(pos_weight=pos_weight), "manual", features=1, dtype=dtype)
    with torch.no_grad():
        module.linear.weight.fill_(1)
        module.linear.bias.zero_()
    x = torch.tensor([[logit]], dtype=dtype)
    value = method.forward(x, torch.tensor([target], dtype=dtype))
    method.backward(value, 1.0)
    z = x[0, 0].double()
    weight = pos_weight if pos_weight is not None and target else 1.0
    sign = 1 - 2 * target
    exact = weight * sign * torch.sigmoid(sign * z)
    # p - y loses at most one rounding of 1 where p is near y; the loss, one of z.
    eps = torch.finfo(dtype).eps * weight
    assert abs(module.linear.bias.grad.item() - exact) <= 2 * eps
    exact_loss = weight * nn.functional.softplus(sign * z, threshold=700)
    assert abs(value.item() - exact_loss) <= 4 * eps * max(1.0, abs(logit))


@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_the_textbook_chain_rule_dies_at_saturation_where_logits_do_not(logit: float, target: float) -> None:
    x, y = torch.tensor([[logit]]), torch.tensor([target])
    for name in ("autograd", "manual"):
        module, method = make(NotebookModel(), LossConfig(name="textbook"), name, features=1, dtype=torch.float32)
        with torch.no_grad():
            module.w.fill_(1)
            module.b.zero_()
        method.backward(method.forward(x, y), 1.0)
        assert module.b.grad.isnan(), name
    module, method = make(NotebookModel(), LossConfig(), "manual", features=1, dtype=torch.float32)
    with torch.no_grad():
        module.w.fill_(1)
        module.b.zero_()
    method.backward(method.forward(x, y), 1.0)
    assert module.b.grad == float(logit > 0) - target


@pytest.mark.parametrize("name", ["autograd", "manual"])
def test_on_probabilities_the_gradient_is_zero_for_a_confidently_wrong_sample(name: str) -> None:
    module, method = make(
        NotebookModel(), LossConfig(name="bce_on_probabilities"), name, features=1, dtype=torch.float32
    )
    with torch.no_grad():
        module.w.fill_(1)
        module.b.zero_()
    value = method.forward(torch.tensor([[1e4]]), torch.tensor([0.0]))
    method.backward(value, 1.0)
    assert value == 100
    assert module.b.grad == 0


@pytest.mark.parametrize("name", ["autograd", "manual", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", ["bce_with_logits", "bce_on_probabilities", "textbook"])
def test_the_worked_example(name: str, dtype: torch.dtype, loss: str) -> None:
    config = LossConfig(name=loss)
    module = build_model(NotebookModel(), (1,)).to(dtype)
    method = build_gradient(
        GradientConfig(name=name), module, module, config, build_loss(config), lambda value: value.backward()
    )
    value = method.forward(torch.tensor([[6.7]], dtype=dtype), torch.tensor([0.0], dtype=dtype))
    method.backward(value, 1.0)
    assert f"{float(module.w.grad):.4f}" == "6.6918"
    assert f"{float(module.b.grad):.4f}" == "0.9988"
    assert f"{float(value.detach()):.4f}" == "6.7012"
    differences = method.differences()
    assert (set(differences) == {"manual_abs_diff", "manual_ulp_diff"}) == (name == "both")
    if name == "both":
        # 1 - p = 0.0012 is known to an eps of 1, 800 of its own: what the textbook's fractions make of it.
        assert differences["manual_ulp_diff"] <= (1000 if loss != "bce_with_logits" else 2)


@pytest.mark.parametrize("model", MODELS)
def test_the_fused_and_the_general_form_keep_names_and_skip_frozen_parameters(model: str) -> None:
    module, _ = make(MODELS[model], LossConfig(), "autograd", features=3, dtype=torch.float32)
    names = list(module.state_dict())
    frozen = next(iter(module.parameters())).requires_grad_(False)
    config = LossConfig()
    method = build_gradient(
        GradientConfig(name="manual"), module, module, config, build_loss(config), lambda value: value.backward()
    )
    method.backward(method.forward(*batch(8, 3, torch.float32)), 1.0)
    assert frozen.grad is None
    assert all(p.grad is not None for p in module.parameters() if p is not frozen)
    assert list(module.state_dict()) == names


def test_images_are_flattened() -> None:
    x, y = batch(6, 64, torch.float32)
    for model in (LogisticModel(), MlpModel(hidden=[3])):
        flat, by_flat = make(model, LossConfig(), "manual", features=64, dtype=torch.float32)
        images, by_images = make(model, LossConfig(), "manual", features=64, dtype=torch.float32)
        by_flat.backward(by_flat.forward(x, y), 1.0)
        by_images.backward(by_images.forward(x.view(6, 1, 8, 8), y), 1.0)
        torch.testing.assert_close(gradients(flat), gradients(images), rtol=0, atol=0)


def test_the_fused_form_follows_parameters_that_move_and_batches_that_change_size() -> None:
    module, method = make(LogisticModel(), LossConfig(), "manual", features=3, dtype=torch.float32)
    reference, by_autograd = make(LogisticModel(), LossConfig(), "autograd", features=3, dtype=torch.float32)
    for step, samples in enumerate([5, 1, 64, 5, 2, 3, 4, 6, 7, 8, 9, 10]):
        if step == 4:
            module.linear.weight.data = module.linear.weight.data.clone().mul_(-2)
            reference.linear.weight.data.mul_(-2)
        if step == 6:
            module.linear.bias.data = module.linear.bias.data + 1
            reference.linear.bias.data.add_(1)
        if step == 8:
            module.double()
            reference.double()
        for each in (module, reference):
            each.zero_grad()
        x, y = batch(samples, 3, module.linear.weight.dtype, seed=step)
        losses = [each.forward(x, y) for each in (method, by_autograd)]
        for each, value in zip((method, by_autograd), losses, strict=True):
            each.backward(value, 1.0)
        torch.testing.assert_close(losses[0], losses[1].detach())
        torch.testing.assert_close(gradients(module), gradients(reference))
    assert losses[0].dtype == torch.float64


def test_the_fused_form_hands_out_tensors_that_later_steps_leave_alone() -> None:
    module, method = make(LogisticModel(), LossConfig(), "manual", features=3, dtype=torch.float32)
    value = method.forward(*batch(8, 3, torch.float32))
    method.backward(value, 1.0)
    kept = [value, module.linear.weight.grad, module.linear.bias.grad]
    copies = [each.clone() for each in kept]
    module.zero_grad()
    method.backward(method.forward(*batch(8, 3, torch.float32, seed=9)), 1.0)
    assert not torch.equal(module.linear.weight.grad, copies[1])
    for each, copy in zip(kept, copies, strict=True):
        assert torch.equal(each, copy)


def test_gradients_add_up_when_they_are_zeroed_in_place_or_not_at_all() -> None:
    for model in ("logistic", "mlp relu"):
        module, method = make(MODELS[model], LossConfig(), "manual", features=3, dtype=torch.float64)
        x, y = batch(8, 3, torch.float64)
        method.backward(method.forward(x, y), 1.0)
        once = {name: grad.clone() for name, grad in gradients(module).items()}
        method.backward(method.forward(x, y), 1.0)
        for name, grad in gradients(module).items():
            assert torch.equal(grad, 2 * once[name])
        module.zero_grad(set_to_none=False)
        method.backward(method.forward(x, y), 1.0)
        for name, grad in gradients(module).items():
            assert torch.equal(grad, once[name])


def test_one_sample_under_batch_norm_is_refused_by_both_ways() -> None:
    for name in ("autograd", "manual"):
        module, method = make(MODELS["mlp norm"], LossConfig(), name, features=3, dtype=torch.float32)
        with pytest.raises(ConfigError, match=r"trainer\.batch_size"):
            method.forward(*batch(1, 3, torch.float32))
        module.eval()
        assert method.forward(*batch(1, 3, torch.float32)).isfinite()


@pytest.mark.parametrize("name", ["manual", "both"])
def test_models_and_losses_without_a_derivation_are_refused(name: str) -> None:
    for model, shape in ((DeepSigmoidModel(), (3,)), (CnnDigitsModel(), (1, 8, 8))):
        module = build_model(model, shape)
        with pytest.raises(ConfigError, match="gradient=autograd"):
            build_gradient(
                GradientConfig(name=name), module, module, LossConfig(), build_loss(LossConfig()), lambda value: None
            )
    module = build_model(LogisticModel(), (3,))
    with pytest.raises(ConfigError, match="loss=custom"):
        build_gradient(
            GradientConfig(name=name), module, module, CustomLoss(target="a.b"), lambda z, y: z.mean(), lambda v: None
        )


def test_an_unknown_method_is_named() -> None:
    module = build_model(LogisticModel(), (3,))
    with pytest.raises(ConfigError, match="Did you mean 'manual'"):
        build_gradient(
            GradientConfig(name="manuel"), module, module, LossConfig(), build_loss(LossConfig()), lambda value: None
        )


@pytest.mark.gpu
@pytest.mark.parametrize("model", MODELS)
def test_by_hand_and_autograd_agree_on_a_gpu(model: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    found = []
    for name in ("autograd", "manual"):
        module, _ = make(MODELS[model], LossConfig(), name, features=3, dtype=torch.float64)
        module.cuda()
        config = LossConfig()
        method = build_gradient(
            GradientConfig(name=name), module, module, config, build_loss(config), lambda value: value.backward()
        )
        torch.manual_seed(3)
        x, y = (each.cuda() for each in batch(32, 3, torch.float64))
        torch.cuda.set_sync_debug_mode("error")
        try:
            method.backward(method.forward(x, y), 1.0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found.append(gradients(module))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-13)

"""The losses are the formulas they claim to be, break where they say, and refuse what they cannot take."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gradkit.errors import ConfigError
from gradkit.train.loop.losses import Penalty, build_loss, smooth
from gradkit.train.models import build_model
from gradkit.train.schema.models import CustomLoss, LogisticModel, LossConfig, MlpModel, NotebookModel

FORMS = ["bce_with_logits", "bce_on_probabilities", "textbook"]


def by_definition(logits: Tensor, targets: Tensor, weight: float, smoothing: float) -> float:
    total = 0.0
    for z, y in zip(logits.tolist(), targets.tolist(), strict=True):
        y = y * (1 - smoothing) + smoothing / 2
        p = 1 / (1 + math.exp(-z))
        total -= weight * y * math.log(p) + (1 - y) * math.log(1 - p)
    return total / len(logits)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("weight", [None, 3.0, 0.25])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_every_form_is_the_mean_cross_entropy(name: str, weight: float | None, smoothing: float) -> None:
    torch.manual_seed(0)
    z, y = torch.randn(50, dtype=torch.float64) * 3, torch.randint(0, 2, (50,)).double()
    y[:5] = 0.3  # soft targets
    value = build_loss(LossConfig(name=name, pos_weight=weight, label_smoothing=smoothing))(z, y)
    assert value.ndim == 0
    assert value.item() == pytest.approx(by_definition(z, y, weight or 1.0, smoothing), rel=1e-12)


def test_saturation_is_exact_clamped_or_nan() -> None:
    z, y = torch.tensor([1000.0]), torch.tensor([0.0])
    values = {name: build_loss(LossConfig(name=name))(z, y).item() for name in FORMS}
    assert values["bce_with_logits"] == 1000
    assert values["bce_on_probabilities"] == 100
    assert math.isinf(values["textbook"])
    assert build_loss(LossConfig())(z, 1 - y).item() == 0
    assert math.isnan(build_loss(LossConfig(name="textbook"))(z, 1 - y).item())


def test_without_smoothing_the_targets_are_not_copied() -> None:
    y = torch.tensor([0.0, 1.0])
    assert smooth(y, 0.0) is y
    torch.testing.assert_close(smooth(y, 0.2), torch.tensor([0.1, 0.9]))


@pytest.mark.parametrize("name", FORMS)
def test_a_mixed_precision_forward_feeds_every_form(name: str) -> None:
    model = build_model(LogisticModel(), (4,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.randn(8, 4)).float()
    assert build_loss(LossConfig(name=name))(logits, torch.ones(8)).isfinite()


def test_penalties_fall_on_weights_and_not_on_biases() -> None:
    config = LossConfig(l1=0.5, l2=3.0)
    notebook = build_model(NotebookModel(w=-2.0, b=5.0), (1,))
    assert Penalty(config, notebook).add_to(torch.tensor(1.0)).item() == 1 + 0.5 * 2 + 3 / 2 * 4
    model = build_model(MlpModel(hidden=[3], batch_norm=True), (2,))
    weights = [p for name, p in model.named_parameters() if name.endswith("linear.weight") or name == "output.weight"]
    assert len(weights) == 2
    expected = sum(0.5 * w.abs().sum() + 1.5 * w.square().sum() for w in weights)
    torch.testing.assert_close(Penalty(config, model).add_to(torch.zeros(())), expected)


def test_derivatives_of_the_penalties_are_autograds() -> None:
    model = build_model(LogisticModel(), (4,)).double()
    with torch.no_grad():
        model.linear.weight[0, 1:] = torch.tensor([-1.0, 0.5, 2.0])  # and one at the kink, 0
    penalty = Penalty(LossConfig(l1=0.3, l2=0.7), model)
    penalty.add_to(torch.zeros((), dtype=torch.float64)).backward()
    ((weight, by_hand),) = penalty.derivatives()
    assert weight is model.linear.weight
    torch.testing.assert_close(by_hand, weight.grad, rtol=1e-15, atol=0)


def test_without_penalties_the_loss_passes_through() -> None:
    penalty = Penalty(LossConfig(), build_model(LogisticModel(), (4,)))
    value = torch.tensor(1.0)
    assert not penalty.active
    assert penalty.add_to(value) is value
    assert penalty.derivatives() == []


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'textbook'"):
        build_loss(LossConfig(name="textbok"))


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_losses.py").write_text(
        "def brier(logits, targets):\n    return (logits.sigmoid() - targets).square().mean()\n"
        "def unreduced(logits, targets):\n    return logits - targets\n"
        "def number(logits, targets):\n    return 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "their_losses"


def test_a_custom_loss_is_used_with_smoothed_targets(user_module: str) -> None:
    loss = build_loss(CustomLoss(target=f"{user_module}.brier", label_smoothing=0.5), trust=[user_module])
    assert loss(torch.zeros(2), torch.tensor([0.0, 1.0])).item() == 0.0625


@pytest.mark.parametrize(("function", "got"), [("unreduced", r"shape \(2,\)"), ("number", "float")])
def test_a_custom_loss_that_returns_no_scalar_is_refused(user_module: str, function: str, got: str) -> None:
    loss = build_loss(CustomLoss(target=f"{user_module}.{function}"), trust=[user_module])
    with pytest.raises(ConfigError, match=rf"loss\.target={user_module}\.{function}.*{got}"):
        loss(torch.zeros(2), torch.zeros(2))


def test_a_custom_loss_needs_trust_and_takes_no_pos_weight(user_module: str) -> None:
    with pytest.raises(ConfigError, match="--trust"):
        build_loss(CustomLoss(target=f"{user_module}.brier"))
    with pytest.raises(ConfigError, match=r"loss\.pos_weight"):
        build_loss(CustomLoss(target=f"{user_module}.brier", pos_weight=2.0), trust=[user_module])
    with pytest.raises(ConfigError, match=r"loss\.target"):
        build_loss(LossConfig(name="custom"))

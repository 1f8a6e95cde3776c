"""Every model maps features to one logit each, fits its data or says why not, and starts where it says."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gradkit.errors import ConfigError
from gradkit.train.models import build_model
from gradkit.train.schema.models import (
    CnnDigitsModel,
    CustomModel,
    DeepSigmoidModel,
    LogisticModel,
    MlpModel,
    ModelConfig,
    NotebookModel,
)

FITTING: list[tuple[ModelConfig, tuple[int, ...]]] = [
    (NotebookModel(feature=2), (5,)),
    (NotebookModel(feature=60), (1, 8, 8)),
    (LogisticModel(), (5,)),
    (LogisticModel(), (1, 8, 8)),
    (MlpModel(hidden=[7, 3], dropout=0.5, batch_norm=True), (5,)),
    (MlpModel(), (1, 8, 8)),
    (DeepSigmoidModel(depth=3, width=4), (5,)),
    (DeepSigmoidModel(), (1, 8, 8)),
    (CnnDigitsModel(channels=4, dropout=0.5), (1, 8, 8)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("config", "shape"), FITTING)
def test_features_become_one_logit_each(config: ModelConfig, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build_model(config, shape).to(dtype)
    for batch in (2, 9):
        logits = model(torch.randn(batch, *shape, dtype=dtype))
        assert logits.shape == (batch,)
        assert logits.dtype == dtype
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.eval()(torch.randn(1, *shape, dtype=dtype)).shape == (1,)


@pytest.mark.parametrize(("config", "shape"), FITTING)
def test_the_seed_decides_the_start(config: ModelConfig, shape: tuple[int, ...]) -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(torch.cat([p.detach().flatten() for p in build_model(config, shape).parameters()]))
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2]) == isinstance(config, (NotebookModel, LogisticModel))


def test_the_notebook_is_two_scalars_on_its_feature() -> None:
    model = build_model(NotebookModel(w=2.0, b=-1.0, feature=1), (3,))
    assert {name: p.shape for name, p in model.named_parameters()} == {"w": (), "b": ()}
    assert model(torch.tensor([[9.0, 4.0, 9.0]])).tolist() == [7.0]


def test_logistic_starts_at_zero() -> None:
    model = build_model(LogisticModel(), (3,))
    assert model(torch.randn(4, 3)).tolist() == [0, 0, 0, 0]
    assert list(model.state_dict()) == ["linear.weight", "linear.bias"]


def test_dropout_and_batch_norm_act_in_training_only() -> None:
    torch.manual_seed(0)
    model = build_model(MlpModel(hidden=[50], dropout=0.5, batch_norm=True), (5,))
    x = torch.randn(8, 5)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_a_layer_before_batch_norm_has_no_bias_for_rounding_to_move() -> None:
    names = [name for name, _ in build_model(MlpModel(hidden=[4], batch_norm=True), (5,)).named_parameters()]
    assert "hidden.0.linear.bias" not in names
    assert "hidden.0.linear.bias" in dict(build_model(MlpModel(hidden=[4]), (5,)).named_parameters())


def test_gradients_vanish_down_the_deep_sigmoid() -> None:
    torch.manual_seed(0)
    model = build_model(DeepSigmoidModel(depth=8, width=32), (10,))
    model(torch.randn(64, 10)).sum().backward()
    norms = [layer.weight.grad.norm().item() for layer in model.hidden]
    assert len(norms) == 8
    assert norms[0] < 1e-3 * norms[-1]


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (NotebookModel(feature=5), (5,), r"model\.feature=5.*0 to 4"),
        (CnnDigitsModel(), (64,), r"\(1, 8, 8\).*\(64,\).*digits_odd"),
        (CnnDigitsModel(), (1, 28, 28), r"\(1, 28, 28\)"),
        (MlpModel(hidden=[]), (5,), r"model\.hidden"),
        (MlpModel(activation="gelu"), (5,), "relu, tanh, sigmoid"),
        (ModelConfig(name="logistc"), (5,), "Did you mean 'logistic'"),
    ],
)
def test_what_does_not_fit_is_refused_by_key(config: ModelConfig, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(config, shape)


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_models.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, width=4, inputs=3):\n"
        "        super().__init__(nn.Linear(inputs, width), nn.Dropout(0.5), nn.Linear(width, 1))\n"
        "def flat():\n    return nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))\n"
        "def two_logits():\n    return nn.Linear(3, 2)\n"
        "def lost_batch():\n"
        "    class Mean(nn.Module):\n"
        "        def forward(self, x):\n            return x.mean()\n"
        "    return Mean()\n"
        "def no_module():\n    return 5\n"
        "def broken():\n    raise KeyError('oops')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "their_models"


def custom(module: str, name: str, **options: object) -> nn.Module:
    return build_model(CustomModel(target=f"{module}.{name}", options=dict(options)), (3,), trust=[module])


def test_a_custom_model_keeps_its_names_and_loses_its_last_axis(user_module: str) -> None:
    state = torch.get_rng_state()
    model = custom(user_module, "Net", width=6)
    assert model.training
    assert all(module.training for module in model.modules())
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert model[0].weight.shape == (6, 3)
    assert model(torch.randn(4, 3)).shape == (4,)
    assert custom(user_module, "flat")(torch.randn(4, 3)).shape == (4,)
    torch.set_rng_state(state)
    plain = nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.5), nn.Linear(6, 1))
    expected = torch.rand(1)
    torch.set_rng_state(state)
    again = custom(user_module, "Net", width=6)
    assert torch.equal(again[2].weight, plain[2].weight)
    assert torch.equal(torch.rand(1), expected), "the trial batch moved the random state"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("two_logits", {}, r"shape \(2, 2\)"),
        ("lost_batch", {}, r"shape \(\)"),
        ("no_module", {}, r"torch\.nn\.Module; got int"),
        ("broken", {}, "KeyError: 'oops'"),
        ("Net", {"wdth": 4}, "unexpected keyword argument 'wdth'"),
        ("Net", {"inputs": 7}, r"cannot take a batch of shape \(2, 3\): RuntimeError"),
    ],
)
def test_a_custom_model_that_does_not_fit_is_refused_in_one_line(
    user_module: str, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        custom(user_module, name, **options)
    assert str(caught.value).startswith(f"model.target={user_module}.{name}")
    assert "\n" not in str(caught.value)


def test_a_custom_model_needs_trust(user_module: str) -> None:
    with pytest.raises(ConfigError, match="--trust their_models"):
        build_model(CustomModel(target=f"{user_module}.Net"), (3,))

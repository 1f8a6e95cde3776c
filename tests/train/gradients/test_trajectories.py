"""Runs by hand and by autograd end at the same weights, for every optimizer."""

import pytest
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor

from gradkit.train.gradients import build_gradient
from gradkit.train.loop.losses import build_loss
from gradkit.train.loop.optimizers import build_optimizer
from gradkit.train.models import build_model
from gradkit.train.schema.models import GradientConfig, LogisticModel, LossConfig, MlpModel, ModelConfig, NotebookModel
from gradkit.train.schema.optimizers import (
    AdagradOptimizer,
    AdamOptimizer,
    LbfgsOptimizer,
    OptimizerConfig,
    RmspropOptimizer,
    SgdOptimizer,
)
from tests.train.gradients.cases import LOSSES

OPTIMIZERS: dict[str, OptimizerConfig] = {
    "sgd": SgdOptimizer(),
    "momentum": SgdOptimizer(momentum=0.9),
    "nesterov": SgdOptimizer(momentum=0.9, nesterov=True),
    "adam": AdamOptimizer(),
    "adamw": AdamOptimizer(name="adamw", weight_decay=0.01),
    "rmsprop": RmspropOptimizer(),
    "adagrad": AdagradOptimizer(),
    "lbfgs": LbfgsOptimizer(),
}
MODELS: dict[str, ModelConfig] = {
    "notebook": NotebookModel(),
    "logistic": LogisticModel(),
    "mlp": MlpModel(hidden=[16, 8], activation="tanh"),
    "mlp norm dropout": MlpModel(hidden=[16, 8], dropout=0.2, batch_norm=True),
}


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    return torch.from_numpy(x), torch.from_numpy(y).double()


def train(
    data: tuple[Tensor, Tensor],
    gradient: str,
    model: ModelConfig,
    optimizer: OptimizerConfig,
    loss: LossConfig,
    dtype: torch.dtype,
    epochs: int = 5,
) -> Tensor:
    """Final weights, flat."""
    x, y = (each.to(dtype) for each in data)
    torch.manual_seed(0)
    module = build_model(model, (30,)).to(dtype)
    method = build_gradient(
        GradientConfig(name=gradient),
        module,
        module,
        loss,
        build_loss(loss),
        lambda value: value.backward(),
        steers_by_loss=isinstance(optimizer, LbfgsOptimizer),
    )
    stepper = build_optimizer(optimizer, module)
    for _ in range(epochs):
        for features, targets in zip(x.split(64), y.split(64), strict=True):

            def closure(features: Tensor = features, targets: Tensor = targets) -> Tensor:
                stepper.zero_grad()
                value = method.forward(features, targets)
                method.backward(value, 1.0)
                return value

            if isinstance(optimizer, LbfgsOptimizer):
                stepper.step(closure)
            else:
                closure()
                stepper.step()
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


# LBFGS on changing micro-batches of nearly separable data is chaotic: a difference in the last bit of one gradient or
# loss grows to order 1 within these 30 steps. Its runs agree because the hand-derived path rounds as autograd does, bit
# for bit. The sums inside torch's batch normalisation are not reproduced to the last bit, so it is left out for LBFGS.
CASES = [
    (optimizer, model)
    for optimizer in OPTIMIZERS
    for model in MODELS
    if (optimizer, model) != ("lbfgs", "mlp norm dropout")
]


@pytest.mark.parametrize(("optimizer", "model"), CASES)
def test_float64_weights_agree_to_1e_12_after_five_epochs(
    data: tuple[Tensor, Tensor], optimizer: str, model: str
) -> None:
    ends = [
        train(data, name, MODELS[model], OPTIMIZERS[optimizer], LossConfig(), torch.float64)
        for name in ("autograd", "manual")
    ]
    assert (ends[0] - ends[1]).abs().max() <= 1e-12
    assert ends[0].abs().max() > 0.05


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_float64_weights_agree_under_every_loss(data: tuple[Tensor, Tensor], optimizer: str, loss: str) -> None:
    ends = [
        train(data, name, LogisticModel(), OPTIMIZERS[optimizer], LOSSES[loss], torch.float64)
        for name in ("autograd", "manual")
    ]
    if (optimizer, loss) == ("lbfgs", "textbook"):  # LBFGS saturates some sample, where this loss is NaN
        assert ends[0].isnan().all()
        assert ends[1].isnan().all()
    else:
        assert (ends[0] - ends[1]).abs().max() <= 1e-12


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_float32_weights_agree(data: tuple[Tensor, Tensor], optimizer: str) -> None:
    """The bound for float32, stated for one gradient and added up over the run.

    An element of the gradient is a mean of n = 64 products d x with |d| <= 1 and mean |x| of about 1. Two orders of
    summing it differ by at most 2 (n + 8) u mean |d x| with u = 2^-24, so by 9e-6; 45 steps of lr 0.1 that do not
    expand differences (the loss is convex) add up to 45 * 0.1 * 9e-6 = 4e-5. On a CPU the operations are the same
    and the difference is 0, which is what LBFGS needs: no bound holds for it otherwise.
    """
    ends = [
        train(data, name, LogisticModel(), OPTIMIZERS[optimizer], LossConfig(), torch.float32)
        for name in ("autograd", "manual")
    ]
    assert (ends[0] - ends[1]).abs().max() <= 4e-5


def test_a_step_that_is_off_by_a_millionth_would_be_noticed(data: tuple[Tensor, Tensor]) -> None:
    right = train(data, "autograd", LogisticModel(), SgdOptimizer(), LossConfig(), torch.float64)
    wrong = train(data, "manual", LogisticModel(), SgdOptimizer(lr=0.1 * (1 + 1e-6)), LossConfig(), torch.float64)
    assert (right - wrong).abs().max() > 1e-8

"""Models, losses and methods for the tests of gradients."""

from typing import Any

import torch
from torch import Tensor, nn

from gradkit.train.gradients import GradientMethod, build_gradient
from gradkit.train.loop.losses import build_loss
from gradkit.train.models import build_model
from gradkit.train.schema.models import GradientConfig, LogisticModel, LossConfig, MlpModel, ModelConfig, NotebookModel

MODELS: dict[str, ModelConfig] = {
    "notebook": NotebookModel(feature=1),
    "logistic": LogisticModel(),
    "mlp relu": MlpModel(hidden=[7, 5]),
    "mlp tanh": MlpModel(hidden=[6], activation="tanh"),
    "mlp sigmoid": MlpModel(hidden=[4, 4, 3], activation="sigmoid"),
    "mlp norm": MlpModel(hidden=[6, 4], activation="tanh", batch_norm=True),
    "mlp dropout": MlpModel(hidden=[8, 8], dropout=0.4),
    "mlp everything": MlpModel(hidden=[8, 8], activation="sigmoid", dropout=0.3, batch_norm=True),
}
LOSSES: dict[str, LossConfig] = {
    "logits": LossConfig(),
    "logits weighted": LossConfig(pos_weight=2.5, label_smoothing=0.2),
    "probabilities": LossConfig(name="bce_on_probabilities"),
    "probabilities weighted": LossConfig(name="bce_on_probabilities", pos_weight=0.3, label_smoothing=0.1),
    "textbook": LossConfig(name="textbook"),
    "textbook weighted": LossConfig(name="textbook", pos_weight=3.0, label_smoothing=0.1),
    "penalties": LossConfig(l1=0.01, l2=0.1),
}


def make(
    model: ModelConfig, loss: LossConfig, gradient: str, *, features: int, dtype: torch.dtype, seed: int = 0
) -> tuple[nn.Module, GradientMethod]:
    """A model with weights drawn from `seed`, so that two calls give equal ones, and its gradient method."""
    torch.manual_seed(seed)
    module = build_model(model, (features,)).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    method = build_gradient(
        GradientConfig(name=gradient), module, module, loss, build_loss(loss), lambda value: value.backward()
    )
    return module, method


def batch(
    samples: int, features: int, dtype: torch.dtype, *, seed: int = 1, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Random features and 0/1 targets."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, features, dtype=dtype, generator=generator) * scale
    return x, torch.randint(0, 2, (samples,), generator=generator).to(dtype)


def gradients(module: nn.Module) -> dict[str, Any]:
    return {name: p.grad for name, p in module.named_parameters()}

"""Keys of the groups `model`, `gradient` and `loss`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradkit.config.fields import MISSING, key


@dataclass
class ModelConfig:
    """What every model shares: it maps features (batch, ...) to logits (batch,)."""

    name: str = key(MISSING, "model, set by the group choice")


@dataclass
class NotebookModel(ModelConfig):
    """Two scalars, z = w x + b, on one feature: the origin of gradkit."""

    name: str = key("notebook", "model", choices=("notebook",))
    w: float = key(1.0, "initial weight")
    b: float = key(0.0, "initial bias")
    feature: int = key(0, "index of the one feature it looks at", low=0)


@dataclass
class LogisticModel(ModelConfig):
    """Logistic regression on all features, started at zero (the loss is convex)."""

    name: str = key("logistic", "model", choices=("logistic",))


@dataclass
class MlpModel(ModelConfig):
    """Fully connected layers, each with an activation."""

    name: str = key("mlp", "model", choices=("mlp",))
    hidden: list[int] = key([64, 64], "widths of the hidden layers", low=1, high=65_536)
    activation: str = key("relu", "activation of the hidden layers", choices=("relu", "tanh", "sigmoid"))
    dropout: float = key(0.0, "share of activations dropped in training", low=0, below=1)
    batch_norm: bool = key(False, "normalise each hidden layer over the batch, before its activation")


@dataclass
class DeepSigmoidModel(ModelConfig):
    """Many narrow sigmoid layers, whose gradients vanish on their way down."""

    name: str = key("deep_sigmoid", "model", choices=("deep_sigmoid",))
    depth: int = key(8, "number of hidden layers", low=1, high=1_000)
    width: int = key(32, "width of each hidden layer", low=1, high=65_536)


@dataclass
class CnnDigitsModel(ModelConfig):
    """Two convolutions and a linear layer for the 8 x 8 digits."""

    name: str = key("cnn_digits", "model", choices=("cnn_digits",))
    channels: int = key(16, "channels of the first convolution; the second has twice as many", low=1, high=4_096)
    dropout: float = key(0.0, "share of activations dropped before the last layer", low=0, below=1)


@dataclass
class CustomModel(ModelConfig):
    """The user's own module class or factory, allowed by `--trust`."""

    name: str = key("custom", "model", choices=("custom",))
    target: str = key(MISSING, "dotted path of a callable that returns a torch.nn.Module")
    options: dict[str, Any] = key({}, "keyword arguments handed to it")
    sparse_gradients: bool = key(False, "declares that some gradients are sparse")


@dataclass
class GradientConfig:
    """Who works out the gradient."""

    name: str = key("autograd", "source of the gradient", choices=("autograd", "manual", "both"))


@dataclass
class LossConfig:
    """Mean binary cross-entropy, in one of its forms, with optional penalties."""

    name: str = key(
        "bce_with_logits",
        "form of the loss",
        choices=("bce_with_logits", "bce_on_probabilities", "textbook"),
    )
    pos_weight: float | None = key(None, "weight of the samples with target 1; null is 1", above=0)
    label_smoothing: float = key(0.0, "targets are moved this far towards 0.5: y (1 - s) + s / 2", low=0, below=1)
    l1: float = key(0.0, "adds l1 * sum of absolute weights (parameters with two or more axes, or the scalar w)", low=0)
    l2: float = key(0.0, "adds l2 / 2 * sum of squared weights (the same parameters)", low=0)


@dataclass
class CustomLoss(LossConfig):
    """The user's own loss, `fn(logits, targets) -> scalar`, allowed by `--trust`."""

    name: str = key("custom", "form of the loss", choices=("custom",))
    target: str = key(MISSING, "dotted path of the function")


MODELS: dict[str, type] = {
    "notebook": NotebookModel,
    "logistic": LogisticModel,
    "mlp": MlpModel,
    "deep_sigmoid": DeepSigmoidModel,
    "cnn_digits": CnnDigitsModel,
    "custom": CustomModel,
}

GRADIENTS: dict[str, type] = {"autograd": GradientConfig, "manual": GradientConfig, "both": GradientConfig}

LOSSES: dict[str, type] = {
    "bce_with_logits": LossConfig,
    "bce_on_probabilities": LossConfig,
    "textbook": LossConfig,
    "custom": CustomLoss,
}

"""The models a run can train; each maps features (batch, ...) to logits (batch,)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from gradkit.errors import ConfigError, did_you_mean
from gradkit.train.models.cnn_digits import CnnDigits
from gradkit.train.models.custom import build_custom
from gradkit.train.models.deep_sigmoid import DeepSigmoid
from gradkit.train.models.logistic import Logistic
from gradkit.train.models.mlp import Mlp
from gradkit.train.models.notebook import Notebook
from gradkit.train.schema import GROUPS
from gradkit.train.schema.models import (
    CnnDigitsModel,
    CustomModel,
    DeepSigmoidModel,
    LogisticModel,
    MlpModel,
    ModelConfig,
    NotebookModel,
)

__all__ = ["CnnDigits", "DeepSigmoid", "Logistic", "Mlp", "Notebook", "build_model"]


def build_model(config: ModelConfig, input_shape: tuple[int, ...], *, trust: Sequence[str] = ()) -> nn.Module:
    """The model a configuration names, in float32 on the CPU; random starts draw from torch's global generator.

    Args:
        config: The `model` group.
        input_shape: Shape of one sample; every model but `cnn_digits` flattens it.
        trust: Module prefixes a custom model may come from.

    Raises:
        ConfigError: Model and data do not fit, or a custom model cannot be used.
    """
    features = math.prod(input_shape)
    if isinstance(config, NotebookModel):
        return Notebook(config, features)
    if isinstance(config, LogisticModel):
        return Logistic(features)
    if isinstance(config, MlpModel):
        return Mlp(config, features)
    if isinstance(config, DeepSigmoidModel):
        return DeepSigmoid(config, features)
    if isinstance(config, CnnDigitsModel):
        return CnnDigits(config, input_shape)
    if isinstance(config, CustomModel):
        return build_custom(config, input_shape, trust)
    raise ConfigError(f"model={config.name!r} is unknown.{did_you_mean(str(config.name), GROUPS['model'])}")

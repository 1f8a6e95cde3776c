"""The gradient three ways: by autograd, by the hand-derived chain rule, or by both with their difference."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, distributed, nn

from gradkit.errors import ConfigError, did_you_mean
from gradkit.train.gradients.autograd import AutogradGradient
from gradkit.train.gradients.both import BothGradients
from gradkit.train.gradients.logistic import FusedLogistic
from gradkit.train.gradients.manual import ManualGradient
from gradkit.train.gradients.method import GradientMethod
from gradkit.train.loop.losses import LossFunction, Penalty
from gradkit.train.models import Logistic
from gradkit.train.schema.models import GradientConfig, LossConfig

__all__ = ["GradientMethod", "build_gradient"]

_NAMES = ("autograd", "manual", "both")


def build_gradient(
    config: GradientConfig,
    model: nn.Module,
    raw_model: nn.Module,
    loss_config: LossConfig,
    loss: LossFunction,
    backward: Callable[[Tensor], None],
    *,
    steers_by_loss: bool = False,
) -> GradientMethod:
    """Who works out the gradient.

    Args:
        config: The `gradient` group.
        model: The model as it is called: wrapped by Fabric, compiled, or as it is.
        raw_model: The model without wrappers, on its device and in its dtype.
        loss_config: The `loss` group.
        loss: The loss built from it.
        backward: Runs autograd's backward from a 0-dim tensor, such as `Fabric.backward`.
        steers_by_loss: Whether the optimizer uses the loss's value, as LBFGS's line search does. It turns a last-bit
            difference into another step length, so the value is then computed exactly as autograd's is.

    Raises:
        ConfigError: The name is unknown, or model or loss have no hand-derived gradient.
    """
    if config.name not in _NAMES:
        raise ConfigError(f"gradient={config.name!r} is unknown.{did_you_mean(config.name, _NAMES)}")
    penalty = Penalty(loss_config, raw_model)
    automatic = AutogradGradient(model, loss, penalty, backward)
    if config.name == "autograd":
        return automatic
    if config.name == "manual" and not steers_by_loss and _fusible(raw_model, loss_config, penalty):
        assert isinstance(raw_model, Logistic)
        return FusedLogistic(raw_model)
    manual = ManualGradient(raw_model, loss_config, loss, penalty)
    if config.name == "manual":
        return manual
    averaged = model is not raw_model and distributed.is_available() and distributed.is_initialized()
    return BothGradients(raw_model, automatic, manual, averaged=averaged and distributed.get_world_size() > 1)


def _fusible(model: nn.Module, loss: LossConfig, penalty: Penalty) -> bool:
    """Whether the short form covers the case: plain cross-entropy with logits, everything trainable."""
    return (
        isinstance(model, Logistic)
        and loss.name == "bce_with_logits"
        and loss.pos_weight is None
        and loss.label_smoothing == 0
        and not penalty.active
        and all(parameter.requires_grad for parameter in model.parameters())
    )

"""A user's own model: imported where `--trust` allows it, and tried on two samples before training starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradkit.errors import ConfigError
from gradkit.train.schema.models import CustomModel

_PROBE = 2
"""Samples in the trial batch: with one, a lost batch axis would go unnoticed."""


def build_custom(config: CustomModel, input_shape: tuple[int, ...], trust: Sequence[str]) -> nn.Module:
    """The user's module, checked to map features (batch, ...) to logits (batch,) or (batch, 1).

    An output of shape (batch, 1) is squeezed by a forward hook rather than by a wrapper, so that parameters keep the
    names the user gave them. The trial runs in evaluation mode and leaves torch's random state as it was.

    Raises:
        ConfigError: The target cannot be imported or called, is not a module, its output does not fit, or no gradient
            can flow from it to a parameter.
    """
    from gradkit.config.trust import import_trusted  # only a user's own code needs it

    factory = import_trusted(config.target, trust, "model.target")
    try:
        model = factory(**config.options)
    except Exception as error:  # the user's own code: whatever it raises, they want to read it in one line
        raise ConfigError(f"model.target={config.target} failed: {_in_one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model.target={config.target} has to return a torch.nn.Module; got {type(model).__name__}.")
    output = _try(model, input_shape, config.target)
    shape = tuple(output.shape) if isinstance(output, Tensor) else None
    if shape == (_PROBE, 1):
        model.register_forward_hook(_squeeze)
    elif shape != (_PROBE,):
        got = type(output).__name__ if shape is None else f"shape {shape}"
        raise ConfigError(
            f"model.target={config.target} has to map a batch of {_PROBE} samples of shape {input_shape} to logits of"
            f" shape ({_PROBE},) or ({_PROBE}, 1); got {got}."
        )
    trainable = any(parameter.requires_grad for parameter in model.parameters())
    if trainable and not output.requires_grad:
        raise ConfigError(
            f"model.target={config.target} cuts its output off from its parameters, as detach(), no_grad() and .data"
            " do; no gradient can flow back."
        )
    return model


def _try(model: nn.Module, input_shape: tuple[int, ...], target: str) -> Any:
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            return model.eval()(torch.zeros(_PROBE, *input_shape))
    except Exception as error:  # see above
        raise ConfigError(
            f"model.target={target} cannot take a batch of shape {(_PROBE, *input_shape)}: {_in_one_line(error)}"
        ) from error
    finally:
        for module, training in modes:
            module.training = training


def _squeeze(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.squeeze(-1)


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

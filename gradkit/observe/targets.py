"""Turns what a user hands to `watch` into models and optimizers, and says clearly what is neither."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gradkit.errors import ConfigError


def sort_targets(targets: Iterable[Any]) -> tuple[list[nn.Module], list[Optimizer]]:
    """The models and the optimizers among `targets`, unwrapped from Accelerate's, Fabric's and Lightning's wrappers.

    Raises:
        ConfigError: A target is neither, or is a generator of parameters.
    """
    models: list[nn.Module] = []
    optimizers: list[Optimizer] = []
    for target in targets:
        if isinstance(target, nn.Module):
            models.append(target)
        elif (optimizer := unwrapped(target)) is not None:
            optimizers.append(optimizer)
        elif isinstance(target, (list, tuple)):
            more_models, more_optimizers = sort_targets(target)
            models += more_models
            optimizers += more_optimizers
        else:
            raise ConfigError(
                "`watch` takes models (torch.nn.Module) and optimizers (torch.optim.Optimizer), not"
                f" {type(target).__name__}."
                " Call it with none of them to watch everything in this process."
            )
    return models, optimizers


def unwrapped(target: Any) -> Optimizer | None:
    """The torch optimizer inside a wrapper that hands its step on, or None."""
    for _ in range(8):
        inner = getattr(target, "optimizer", None) or getattr(target, "_optimizer", None)
        if (isinstance(inner, Optimizer) and not hasattr(target, "_optimizer_step_pre_hooks")) or (
            inner is not None and not isinstance(target, Optimizer) and isinstance(unwrapped_once(inner), Optimizer)
        ):
            target = inner
        else:
            break
    return target if isinstance(target, Optimizer) else None


def unwrapped_once(target: Any) -> Any:
    """`target` itself, or the optimizer one level inside it."""
    return target if isinstance(target, Optimizer) else getattr(target, "optimizer", None)

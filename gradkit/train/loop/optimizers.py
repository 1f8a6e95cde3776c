"""The optimizers a run can use, all torch's own, and which of them take sparse gradients."""

from __future__ import annotations

import torch
from torch import nn

from gradkit.errors import ConfigError, did_you_mean
from gradkit.train.schema import GROUPS
from gradkit.train.schema.optimizers import (
    AdagradOptimizer,
    AdamOptimizer,
    LbfgsOptimizer,
    OptimizerConfig,
    RmspropOptimizer,
    SgdOptimizer,
)

TAKES_SPARSE = ("sgd", "adagrad", "lbfgs")
"""Optimizers that take sparse gradients; torch's others raise at the first step.

Source: `torch.optim.SGD` and `torch.optim.Adagrad` have sparse branches, `LBFGS` makes the gradients dense.
"""


def detect_sparse(model: nn.Module) -> list[str]:
    """Names of the modules whose weights get sparse gradients (`sparse=True`), in the order of `named_modules`.

    Example:
        >>> detect_sparse(nn.Sequential(nn.Embedding(4, 2, sparse=True), nn.Linear(2, 1)))
        ['0']
    """
    return [
        name or type(module).__name__
        for name, module in model.named_modules()
        if getattr(module, "sparse", False) is True
        and any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    ]


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer a configuration names, over every parameter that requires a gradient.

    Args:
        config: The `optimizer` group.
        model: The model without wrappers.

    Raises:
        ConfigError: There is nothing to train, or the settings do not go together or with sparse gradients.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError("The model has no parameter that requires a gradient; there is nothing to train.")
    _refuse_sparse(config, detect_sparse(model))
    if isinstance(config, SgdOptimizer):
        if config.nesterov and config.momentum == 0:
            raise ConfigError("optimizer.nesterov=true needs optimizer.momentum > 0, such as 0.9.")
        return torch.optim.SGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )
    if isinstance(config, AdamOptimizer) and config.name in _ADAMS:
        return _ADAMS[config.name](
            parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            amsgrad=config.amsgrad,
        )
    if isinstance(config, RmspropOptimizer):
        return torch.optim.RMSprop(
            parameters,
            lr=config.lr,
            alpha=config.alpha,
            eps=config.eps,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
        )
    if isinstance(config, AdagradOptimizer):
        return torch.optim.Adagrad(parameters, lr=config.lr, eps=config.eps, weight_decay=config.weight_decay)
    if isinstance(config, LbfgsOptimizer):
        if config.weight_decay > 0:
            raise ConfigError("optimizer=lbfgs takes no optimizer.weight_decay; use loss.l2 instead.")
        return torch.optim.LBFGS(
            parameters,
            lr=config.lr,
            max_iter=config.max_iter,
            history_size=config.history_size,
            line_search_fn="strong_wolfe",
        )
    name = str(config.name)
    raise ConfigError(f"optimizer={name!r} is unknown.{did_you_mean(name, GROUPS['optimizer'])}")


_ADAMS: dict[str, type[torch.optim.Adam] | type[torch.optim.AdamW]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def _refuse_sparse(config: OptimizerConfig, modules: list[str]) -> None:
    if not modules:
        return
    where = f"module {modules[0]!r}" + (f" and {len(modules) - 1} more" if len(modules) > 1 else "")
    if config.name not in TAKES_SPARSE:
        raise ConfigError(
            f"{where} gives sparse gradients (sparse=True), which torch's {config.name} refuses; use optimizer=sgd,"
            " momentum, nesterov, adagrad or lbfgs, or build the module with sparse=False."
        )
    if config.weight_decay > 0:
        raise ConfigError(
            f"{where} gives sparse gradients (sparse=True), and the decay of a weight is dense; set"
            " optimizer.weight_decay=0, or build the module with sparse=False."
        )

"""Five ways to evaluate a model, from a fully tracked forward to one autograd never sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]


@contextmanager
def inference(model: nn.Module, mode: str, *, eval_mode: bool = True) -> Iterator[Forward]:
    """A forward function of `model` under one of the five modes; everything is restored afterwards.

    Args:
        model: Maps features `(batch, ...)` to logits `(batch,)`.
        mode: `tracked` records the graph as training does; `no_grad` and `inference_mode` switch recording off;
            `detach` runs on parameters cut off from autograd (`parameter.detach()`); `requires_grad_false` freezes
            the parameters for the time of the block.
        eval_mode: Whether dropout and batch-norm are in eval mode within the block.

    Yields:
        The forward function; its result carries a graph only under `tracked`.

    Raises:
        ValueError: `mode` is none of the five.
    """
    modes = {
        "tracked": _tracked,
        "no_grad": _no_grad,
        "inference_mode": _inference_mode,
        "detach": _detached,
        "requires_grad_false": _frozen,
    }
    if mode not in modes:
        raise ValueError(f"mode must be one of {', '.join(modes)}; got {mode!r}")
    training = {module: module.training for module in model.modules()}
    model.train(not eval_mode)
    try:
        with modes[mode](model) as forward:
            yield forward
    finally:
        for module, was_training in training.items():
            module.training = was_training


@contextmanager
def _tracked(model: nn.Module) -> Iterator[Forward]:
    with torch.enable_grad():
        yield model


@contextmanager
def _no_grad(model: nn.Module) -> Iterator[Forward]:
    with torch.no_grad():
        yield model


@contextmanager
def _inference_mode(model: nn.Module) -> Iterator[Forward]:
    with torch.inference_mode():
        yield model


@contextmanager
def _detached(model: nn.Module) -> Iterator[Forward]:
    detached = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def forward(features: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(model, detached, (features,))
        return result

    yield forward


@contextmanager
def _frozen(model: nn.Module) -> Iterator[Forward]:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield model
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)

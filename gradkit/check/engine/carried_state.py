"""Buffers that a forward pass computes and uses at once: differences see that change, and autograd is not meant to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradkit.check.engine.batches import cast, floating, twin_of
from gradkit.check.engine.intact import same_bits
from gradkit.check.engine.model_subject import LossFunction, loss_of
from gradkit.check.engine.random_state import RandomState

MOVED = 1.5
"""What the buffers are multiplied by to see whether the loss follows them."""


def carried(model: nn.Module, loss_fn: LossFunction, batch: Any, state: RandomState) -> list[str]:
    """The buffers that a forward pass in this mode changes and that its loss depends on, as in spectral normalization.

    Running statistics of batch normalization are changed too, but in training mode the loss does not depend on them.

    Args:
        model: In the mode of the check; it is copied.
        loss_fn: Takes the model and the batch.
        batch: Of the check.
        state: The random state every forward begins with.
    """
    twin = twin_of(model)
    loss = _loss(twin, loss_fn, batch, state)
    before, after = dict(model.named_buffers()), dict(twin.named_buffers())
    changed = [name for name, each in before.items() if each.is_floating_point() and not same_bits(each, after[name])]
    found = []
    for name in changed:
        other = twin_of(model)
        with torch.no_grad():
            dict(other.named_buffers())[name].mul_(MOVED).add_(1.0)
        if any(not torch.equal(one, two) for one, two in zip(loss, _loss(other, loss_fn, batch, state), strict=True)):
            found.append(name)
    return found


def _loss(model: nn.Module, loss_fn: LossFunction, batch: Any, state: RandomState) -> list[Tensor]:
    state.restore()
    with torch.no_grad():
        return [each.detach().clone() for each in floating(loss_of(loss_fn, model, cast(batch)))]

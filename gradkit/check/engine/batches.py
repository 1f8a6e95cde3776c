"""Batches as trees of tensors, and model copies to try things on; the user's objects are never changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.leaves import first_line

Forward = Callable[[nn.Module, Any], Any]


def twin_of(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A deep copy of the model, its gradients cleared, floating parameters and buffers cast.

    Raises:
        CheckInputError: The model cannot be copied.
    """
    try:
        twin = copy.deepcopy(model)
    except (RuntimeError, TypeError, copy.Error, NotImplementedError) as error:
        raise CheckInputError(
            f"the model cannot be copied, so it cannot be checked apart: {first_line(error)}."
        ) from error
    twin.zero_grad(set_to_none=True)
    return twin if dtype is None else twin.to(dtype)


def cast(batch: Any, dtype: torch.dtype | None = None) -> Any:
    """A copy of the batch, detached; floating tensors in `dtype` when one is given."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.detach().to(dtype, copy=True) if dtype and leaf.is_floating_point() else leaf.detach().clone()

    return tree_map(one, batch)


def call_model(model: nn.Module, batch: Any) -> Any:
    """`model(batch)`, `model(*batch)` or `model(**batch)` for a tensor, a tuple or list, or a dictionary."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)


def floating(tree: Any) -> list[Tensor]:
    """The floating tensors of a tree, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def size_along(batch: Any, dim: int, what: str) -> int:
    """The size all tensors of the batch that have this dimension share; the first tensor's.

    Args:
        batch: A tree of tensors.
        dim: The dimension, from 0.
        what: What runs along it, for the message.

    Raises:
        CheckInputError: No tensor has the dimension, or only one of them along it.
    """
    sizes = [leaf.shape[dim] for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.dim() > dim]
    if not sizes:
        raise CheckInputError(f"inputs hold no tensor with a dimension {dim} for the {what}.")
    if sizes[0] < 2:
        raise CheckInputError(f"dimension {dim} of the inputs holds {sizes[0]} of the {what}; at least 2 are needed.")
    return sizes[0]

"""The gradients that one backward pass gives, also where reentrant checkpoints allow only `.backward()`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gradkit.check.engine.errors import MethodError, UnsupportedError
from gradkit.check.engine.leaves import first_line

REENTRANT = "CheckpointFunctionBackward"
"""The node that `torch.utils.checkpoint.checkpoint(..., use_reentrant=True)` leaves in a graph."""


def gradients_of(
    outputs: Sequence[Tensor], wanted: Sequence[Tensor], cotangents: Sequence[Tensor], *, owned: bool
) -> Sequence[Tensor | None]:
    """The gradient of the contracted outputs by each of the wanted tensors; None where no graph leads.

    Args:
        outputs: All of them carry a graph.
        wanted: Leaves without a gradient.
        cotangents: One for each output; a backward pass may write into them.
        owned: Whether `.grad` of every parameter in reach may be filled.

    Raises:
        MethodError: The backward pass raised.
        UnsupportedError: Only `.backward()` could compute it, and that would fill gradients that are not ours.
    """
    accumulated = any(type(node).__name__ == REENTRANT for node in nodes(outputs))
    if accumulated and not owned:
        raise UnsupportedError(
            "a reentrant checkpoint computes gradients with .backward() alone, which would fill the .grad of your own"
            " tensors; use use_reentrant=False"
        )
    try:
        if not accumulated:
            return torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True)
        torch.autograd.backward(outputs, cotangents)
    except Exception as error:
        raise MethodError(f"the backward pass raised {type(error).__name__}: {first_line(error)}") from error
    return [each.grad for each in wanted]


def nodes(outputs: Sequence[Tensor]) -> Iterator[Any]:
    """Every node of the graph behind the outputs, each once."""
    waiting = [each.grad_fn for each in outputs if each.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                waiting.append(parent)


def leads_to(output: Tensor, leaf: Tensor) -> bool:
    """Whether the graph behind an output ends in a leaf."""
    return output is leaf or any(getattr(node, "variable", None) is leaf for node in nodes([output]))

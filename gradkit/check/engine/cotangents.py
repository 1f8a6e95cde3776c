"""What the outputs of a function are contracted with: one for a scalar, drawn, or given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.leaves import drawn, shapes_in_words


def contraction(outputs_like: Sequence[Tensor], cotangent: Any, seed: int) -> list[Tensor]:
    """One cotangent for each output.

    Args:
        outputs_like: The differentiable outputs, detached.
        cotangent: None for one scalar output, `"random"`, or tensors shaped like the outputs.
        seed: Of the random ones.

    Raises:
        CheckInputError: Outputs that are not one scalar without a cotangent, or one of another shape.
    """
    shapes = [tuple(each.shape) for each in outputs_like]
    if cotangent is None:
        if len(shapes) != 1 or outputs_like[0].numel() != 1:
            raise CheckInputError(
                f"the function returns {shapes_in_words(shapes)}, not one scalar; give cotangent=TENSOR shaped"
                ' like it, or cotangent="random" to check every output at once.'
            )
        return [torch.ones_like(outputs_like[0])]
    if isinstance(cotangent, str):
        if cotangent != "random":
            raise CheckInputError(f'cotangent: expected a tensor or "random", got {cotangent!r}.')
        generator = torch.Generator().manual_seed(seed)
        return [drawn(like, generator) for like in outputs_like]
    given = tree_flatten(cotangent)[0]
    if len(given) != len(shapes) or any(
        not isinstance(each, Tensor) or tuple(each.shape) != shape for each, shape in zip(given, shapes, strict=False)
    ):
        got = shapes_in_words([tuple(each.shape) if isinstance(each, Tensor) else type(each) for each in given])
        raise CheckInputError(f"cotangent: expected {shapes_in_words(shapes)}, got {got}.")
    return [each.detach().to(like) for each, like in zip(given, outputs_like, strict=True)]

"""Leaves of input trees: copies that keep their strides, names, and words for messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.precision import short_name

COTANGENT_STEPS = (64, 192)
"""A random cotangent draws plus or minus these 128ths: exact in every format (8 bits), none so small that it hides an
output, and so many that sums of them hardly ever cancel."""


def drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    """A random cotangent shaped like an output."""
    steps = torch.randint(*COTANGENT_STEPS, tuple(like.shape), generator=generator)
    signs = 2 * torch.randint(0, 2, tuple(like.shape), generator=generator) - 1
    return (signs * steps / 128).to(like)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, shortened."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return line if len(line) <= 200 else line[:197] + "..."


def placed(leaf: Any, dtype: torch.dtype | None, device: torch.device | str | None) -> Any:
    """A copy of a leaf on the device and in the dtype asked for; what is no tensor as it is."""
    if not isinstance(leaf, Tensor):
        return leaf
    return copied(leaf.detach().to(device) if device is not None else leaf.detach(), dtype)


def copied(leaf: Any, dtype: torch.dtype | None) -> Any:
    """A copy with the same strides, unless elements overlap in memory; floating tensors are cast."""
    if not isinstance(leaf, Tensor):
        return leaf
    target = dtype if dtype is not None and leaf.is_floating_point() else leaf.dtype
    overlaps = any(stride == 0 and size > 1 for stride, size in zip(leaf.stride(), leaf.shape, strict=True))
    if leaf.layout is not torch.strided:
        raise CheckInputError(f"inputs hold a tensor of layout {leaf.layout}; only strided tensors can be checked.")
    if overlaps or leaf.is_contiguous():
        return leaf.detach().to(target, copy=True, memory_format=torch.contiguous_format)
    empty = torch.empty_strided(leaf.shape, leaf.stride(), dtype=target, device=leaf.device)
    return empty.copy_(leaf.detach())


def path_name(path: Sequence[Any]) -> str:
    """`input 0['a']` for the place of a leaf in a tree."""
    if not path:
        return "input"
    first = getattr(path[0], "idx", None)
    head = f"input {first}" if first is not None else f"input {getattr(path[0], 'key', path[0])!r}"
    rest = "".join(str(each) for each in path[1:])
    return head + rest


def kind(value: Any) -> str:
    """What a returned value is, in words."""
    return f"a tensor of {short_name(value.dtype)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def shapes_in_words(shapes: Sequence[Any]) -> str:
    """Shapes as a message names them."""
    if len(shapes) == 1:
        return f"a tensor of shape {shapes[0]}" if isinstance(shapes[0], tuple) else f"a {shapes[0].__name__}"
    return f"{len(shapes)} tensors of shapes " + ", ".join(str(each) for each in shapes)

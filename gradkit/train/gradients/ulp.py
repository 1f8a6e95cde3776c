"""How far two gradients are apart, absolute and in units in the last place (ULP), without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def largest_differences(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The largest absolute and the largest ULP difference over pairs of tensors of the same shape and dtype.

    One ULP is the spacing of floating-point numbers at the largest magnitude of the pair's two tensors. Measuring each
    element in its own spacing would say little: an element of a gradient is a sum of products, and rounding errs by
    units of the largest terms of that sum. Where they cancel to almost nothing, two right answers can be millions of
    the result's own ULP apart. The largest element of the tensor stands for the size of the terms.

    Elements that are both NaN, or the same infinity, agree; where only one is finite the difference is infinite.

    Args:
        pairs: At least one pair.

    Returns:
        Two 0-dim tensors on the device of the pairs, of the widest dtype among them.
    """
    absolute, ulps = zip(*(_differences(first, second) for first, second in pairs), strict=True)
    return torch.stack(absolute).max(), torch.stack(ulps).max()


def _differences(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    agree = (first == second) | (first.isnan() & second.isnan())
    distance = torch.where(agree, 0, (first - second).abs()).nan_to_num(nan=math.inf, posinf=math.inf).max()
    magnitude = torch.maximum(first.abs(), second.abs())
    return distance, distance / spacing(torch.where(magnitude.isfinite(), magnitude, 0).max())


def spacing(magnitude: Tensor) -> Tensor:
    """The distance from each finite magnitude to the next larger number of its dtype.

    For m = f 2^e with f in [1/2, 1) it is eps 2^(e - 1); below the smallest normal number it is constant.

    Source: Goldberg, "What every computer scientist should know about floating-point arithmetic", 1991, section 1.2.

    Example:
        >>> spacing(torch.tensor([1.0, 1.9, 2.0, 0.0]))
        tensor([1.1921e-07, 1.1921e-07, 2.3842e-07, 1.4013e-45])
    """
    info = torch.finfo(magnitude.dtype)
    _, exponent = torch.frexp(magnitude.clamp(min=info.tiny))
    return torch.ldexp(torch.full_like(magnitude, info.eps), exponent - 1)

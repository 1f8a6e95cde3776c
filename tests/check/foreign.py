"""Backward passes as they are found in other people's code, right and wrong: kinds that a gradient check trips over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Function = type[torch.autograd.Function]


@dataclass(frozen=True)
class Foreign:
    """One autograd function at one point.

    Attributes:
        name: What is special about it.
        right: Whether its backward pass is.
        function: The class.
        inputs: The point, in the dtype it is made for.
        reference: Whose gradient its backward pass is meant to give, if not that of its forward.
    """

    name: str
    right: bool
    function: Function
    inputs: tuple[Tensor, ...]
    reference: Callable[..., Any] | None = None


def made(forward: Callable[..., Any], backward: Callable[..., Any]) -> Function:
    """An autograd function whose forward saves the input that it returns beside its output, if any."""

    class Made(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            found = forward(ctx, x)
            ctx.save_for_backward(x)
            return found

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return backward(ctx, ctx.saved_tensors[0], grad)

    return Made


def point(size: int = 5, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor]:
    """One input."""
    return (torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(dtype),)


def _only(dtype: torch.dtype) -> Callable[..., Tensor]:
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if x.dtype is not dtype:
            raise TypeError(f"{dtype} only")
        return x.sin()

    return forward


def _asserting(ctx: Any, x: Tensor, grad: Tensor) -> Tensor:
    assert x.dtype is torch.float32, "float32 only"
    return grad * x.exp()


def _clamped(ctx: Any, x: Tensor) -> Tensor:
    x.clamp_(min=0)
    ctx.mark_dirty(x)
    return x


def _raw(ctx: Any, x: Tensor) -> Tensor:
    x.data.clamp_(min=0)
    return x.clone()


def _by_numpy(ctx: Any, x: Tensor) -> Tensor:
    return torch.from_numpy(np.sin(x.detach().numpy()))


def _numpy_slope(ctx: Any, x: Tensor, grad: Tensor) -> Tensor:
    return torch.from_numpy(np.cos(x.detach().numpy()) * grad.numpy())


def _masked(ctx: Any, x: Tensor) -> Tensor:
    ctx.mask = (torch.rand_like(x) > 0.5) * 2
    return x * ctx.mask


def _scattered(ctx: Any, x: Tensor, grad: Tensor) -> Tensor:
    return torch.zeros_like(x).index_add_(0, torch.tensor([0, 1, 1, 4]), grad)


def _saved_overwritten(ctx: Any, x: Tensor, grad: Tensor) -> Tensor:
    found = grad * x.cos()
    x.data.mul_(2)
    return found


def _counted(ctx: Any, x: Tensor, grad: Tensor) -> Tensor:
    ctx.calls = getattr(ctx, "calls", 0) + 1
    return grad * x.cos() * ctx.calls


FOREIGN = (
    Foreign("kernel for float32 only", True, made(_only(torch.float32), lambda c, x, g: g * x.cos()), point()),
    Foreign("kernel for float32 only, sign", False, made(_only(torch.float32), lambda c, x, g: -g * x.cos()), point()),
    Foreign(
        "kernel for bfloat16 only", True, made(_only(torch.bfloat16), lambda c, x, g: g * x.cos()),
        point(5, torch.bfloat16),
    ),
    Foreign(
        "kernel for bfloat16 only, with a reference", True,
        made(_only(torch.bfloat16), lambda c, x, g: g * x.cos()), point(5, torch.bfloat16), torch.sin,
    ),
    Foreign(
        "kernel for bfloat16 only, sign, with a reference", False,
        made(_only(torch.bfloat16), lambda c, x, g: -g * x.cos()), point(5, torch.bfloat16), torch.sin,
    ),
    Foreign("backward that asserts float32", True, made(lambda c, x: x.exp(), _asserting), point()),
    Foreign("declared in-place change", True, made(_clamped, lambda c, x, g: g * (x > 0)), point()),
    Foreign("declared in-place change, no mask", False, made(_clamped, lambda c, x, g: g), point()),
    Foreign("input overwritten", False, made(_raw, lambda c, x, g: g * (x > 0)), point()),
    Foreign("by NumPy", True, made(_by_numpy, _numpy_slope), point()),
    Foreign("by NumPy, sine", False, made(_by_numpy, lambda c, x, g: torch.from_numpy(np.sin(x.numpy())) * g), point()),
    Foreign("dropout with the mask kept", True, made(_masked, lambda c, x, g: g * c.mask), point(12)),
    Foreign(
        "dropout with a new mask", False, made(_masked, lambda c, x, g: g * (torch.rand_like(g) > 0.5) * 2), point(12)
    ),
    Foreign("cotangent changed in place", False, made(lambda c, x: x.sin(), lambda c, x, g: g.mul_(x.cos())), point()),
    Foreign("saved tensor overwritten", False, made(lambda c, x: x.sin(), _saved_overwritten), point()),
    Foreign("backward that counts its calls", False, made(lambda c, x: x.sin(), _counted), point()),
    Foreign("gather with repeats", True, made(lambda c, x: x[torch.tensor([0, 1, 1, 4])], _scattered), point()),
    Foreign(
        "gather with repeats, assigned", False,
        made(lambda c, x: x[torch.tensor([0, 1, 1, 4])],
             lambda c, x, g: torch.zeros_like(x).index_copy_(0, torch.tensor([0, 1, 1, 4]), g)), point(),
    ),
    Foreign("straight-through", True, made(lambda c, x: x.round(), lambda c, x, g: g), point(), lambda x: x),
    Foreign("gradient reversal", True, made(lambda c, x: x.clone(), lambda c, x, g: -g), point(), lambda x: -x),
    Foreign(
        "straight-through, scaled", False, made(lambda c, x: x.round(), lambda c, x, g: 2 * g), point(), lambda x: x
    ),
)  # fmt: skip

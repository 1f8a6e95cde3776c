"""Numbers that stand for tensors: norms, products and projections on fixed numbers; none waits for the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def wide(tensor: Tensor) -> Tensor:
    """In float64, or float32 on a device without it."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def gradients_of(parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Dense copies of the gradients; None where there is none."""
    return [None if (grad := parameter.grad) is None else dense(grad.detach()).clone() for parameter in parameters]


def dense(tensor: Tensor) -> Tensor:
    """The tensor itself, or a dense copy of a sparse one."""
    return tensor.to_dense() if tensor.layout is not torch.strided else tensor


def dot(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> Tensor:
    """The inner product over all tensors, 0-dim; absent ones are zero."""
    products = [
        torch.dot(wide(first).flatten(), wide(second).flatten())
        for first, second in zip(left, right, strict=True)
        if first is not None and second is not None and first.shape == second.shape
    ]
    if not products:
        return torch.zeros(())
    device = products[0].device
    return torch.stack([product.to(device) for product in products]).sum()


def norm(tensors: Sequence[Tensor | None]) -> Tensor:
    """The 2-norm over all tensors, 0-dim."""
    return dot(tensors, tensors).sqrt()


def projection(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of the projections of the tensors, each on its own part of the fixed numbers; 0-dim."""
    parts = [
        torch.dot(flat := wide(tensor).flatten(), directions(len(flat), flat, offset=place))
        for place, tensor in enumerate(tensors)
    ]
    return torch.stack([part.to(parts[0].device) for part in parts]).sum() if parts else torch.zeros(())


def directions(size: int, like: Tensor, offset: int = 0) -> Tensor:
    """Fixed numbers in [-1, 1): the fractional parts of multiples of the golden ratio (a Weyl sequence)."""
    positions = torch.arange(1, size + 1, dtype=like.dtype, device=like.device)
    return torch.frac((positions + 17.0 * offset) * _GOLDEN_RATIO) * 2 - 1


def moments(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Norm and projection of a tensor, 0-dim each."""
    flat = wide(dense(tensor)).flatten()
    return torch.linalg.vector_norm(flat), torch.dot(flat, directions(len(flat), flat))


def numbers(values: tuple[Tensor, Tensor] | None) -> tuple[float, float] | None:
    """Moments read back; waits for the device."""
    return None if values is None else (float(values[0]), float(values[1]))


def weight_print(tensor: Tensor) -> tuple[float, float]:
    """2-norm of a tensor and its projection on fixed pseudo-random numbers, as `ParameterPrint` keeps them."""
    norm, projection = moments(tensor.detach())
    return float(norm), float(projection)

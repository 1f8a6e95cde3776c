"""Whether a computation left the tensors it was given as they were, bit for bit: version counters see only part."""

from __future__ import annotations

import torch
from torch import Tensor


def replica(tensor: Tensor) -> Tensor:
    """A copy with memory of its own, laid out like the original, gaps and shared places included."""
    storage = tensor.untyped_storage().clone()
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return empty.set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())


def same_bits(one: Tensor, two: Tensor) -> bool:
    """Whether two strided tensors hold the same bits; NaNs count by their bits too."""
    if one.shape != two.shape or one.dtype is not two.dtype:
        return False
    return bool(torch.equal(_bytes(one), _bytes(two)))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)

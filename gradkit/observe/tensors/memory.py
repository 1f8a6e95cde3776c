"""Where a tensor's numbers lie."""

from __future__ import annotations

from torch import Tensor

from gradkit.observe.tensors.transforms import has_own_memory


def storage_of(tensor: Tensor) -> int | None:
    """The address of a plain tensor's memory; None for what has none of its own."""
    return tensor.untyped_storage().data_ptr() if has_own_memory(tensor) else None


def memory_of(tensor: Tensor) -> int | None:
    """The identity of a plain tensor's memory; None for a tensor that has none of its own or hides it."""
    return int(tensor.untyped_storage()._cdata) if has_own_memory(tensor) else None

"""Tells tensors with memory of their own from those that stand for others: under `torch.func`, fake, or of a subclass.

Under a transform such as `torch.func.grad` or `vmap` a module's parameters may be wrappers of type `Tensor`, which say
nothing of where their numbers lie and are dead once the transform is over. Who is who cannot be known there. Under a
fake-tensor mode, as memory is estimated with, every result is a shape without numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_functorch: Any = getattr(torch._C, "_functorch", None)
_is_wrapper: Any = getattr(_functorch, "is_functorch_wrapped_tensor", lambda tensor: False)
_fake: Any = getattr(getattr(torch._C, "_TorchDispatchModeKey", None), "FAKE", None)
_innermost: Any = getattr(_functorch, "peek_interpreter_stack", lambda: None)


def has_own_memory(tensor: Tensor) -> bool:
    """Whether a tensor is a plain dense one whose storage may be asked for."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and not _is_wrapper(tensor)
    )


def has_numbers(tensor: Tensor) -> bool:
    """Whether there is anything to read; tensors on the meta device and fake ones have shapes alone."""
    return tensor.device.type != "meta" and not hasattr(tensor, "fake_mode")


def is_transforming() -> bool:
    """Whether a transform of `torch.func` is running in this thread, or a fake-tensor mode."""
    return _innermost() is not None or (_fake is not None and torch._C._get_dispatch_mode(_fake) is not None)

"""Gradients as metadata sees them: which memory and which version, held weakly.

A plain gradient is one tensor object for as long as it is the same buffer, and its version moves with every write.
Inside the wrappers of sharded training neither holds: FSDP1 makes new views of one memory at every forward and at every
backward, the latter with a version of their own, and of a DTensor and its local part only one has a version that moves,
depending on who writes. So a wrapped gradient is known by its storage, which torch hands out as one object for as long
as it lives, and by both versions.
"""

from __future__ import annotations

import operator
import weakref
from typing import Any

import torch
from torch import Tensor, nn

reference = weakref.ref

Held = weakref.ref[Any]
"""What is remembered of a gradient: the tensor, or the storage of a wrapped one."""

gradient_of = operator.attrgetter("grad")


version_of = operator.attrgetter("_version")

NOTHING = (0, -1)
"""The identity and version of no gradient."""

_PLAIN = (Tensor, nn.Parameter)


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured on the current stream: nothing may be read or queued then."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def is_wrapped(parameter: Tensor) -> bool:
    """Whether a parameter is a subclass, such as a DTensor, or a part of one of FSDP1's flat parameters."""
    return type(parameter) not in _PLAIN or hasattr(parameter, "_fsdp_flattened")


def inner(tensor: Tensor) -> Tensor:
    """The local part of a DTensor, else the tensor itself."""
    local = getattr(tensor, "_local_tensor", None)
    return local if isinstance(local, Tensor) else tensor


def version(tensor: Tensor) -> int:
    """A number that moves when a tensor is written to.

    What autograd and optimizers write moves a wrapper's own version, what sharding writes to the local part its.
    """
    if type(tensor) in _PLAIN:
        return tensor._version
    inside = inner(tensor)
    return tensor._version if inside is tensor else tensor._version + inside._version


def hold(buffer: Tensor, wrapped: bool) -> Held:
    """Remember a gradient without keeping it alive.

    Args:
        buffer: The gradient.
        wrapped: Its parameter is wrapped.
    """
    return weakref.ref(_memory(buffer)) if wrapped else weakref.ref(buffer)


def holds(held: Held | None, buffer: Tensor) -> bool:
    """Whether a gradient is the one that was remembered."""
    known = None if held is None else held()
    return known is buffer or (type(known) is torch.UntypedStorage and _memory(buffer) is known)


def _memory(buffer: Tensor) -> Any:
    """The storage of a gradient; the tensor itself where there is none to be had."""
    try:
        return inner(buffer).untyped_storage()
    except (NotImplementedError, RuntimeError):  # sparse, or of a subclass without memory of its own
        return buffer


def held_state(gradients: list[Tensor | None], wrapped: bool = False) -> tuple[list[Held | None], list[int]]:
    """What remembers each gradient, None where there is none, and their versions."""
    if wrapped:
        return (
            [None if item is None else hold(item, True) for item in gradients],
            [0 if item is None else version(item) for item in gradients],
        )
    try:
        return list(map(reference, gradients)), list(map(version_of, gradients))
    except TypeError:  # one of them is None
        return (
            [None if item is None else reference(item) for item in gradients],
            [0 if item is None else item._version for item in gradients],
        )


class Look:
    """How the gradient of a parameter looked: two looks are equal when nothing was written and nothing was replaced.

    Args:
        parameter: The parameter.
    """

    __slots__ = ("_tensor", "memory", "version")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, parameter: Tensor) -> None:
        buffer = parameter.grad
        # FSDP1 makes a new tensor over the same memory: that shows a backward which the version may not show.
        self._tensor = None if buffer is None else weakref.ref(buffer)
        self.memory = None if buffer is None else hold(buffer, is_wrapped(parameter))
        self.version = -1 if buffer is None else version(buffer)

    def __eq__(self, other: object) -> bool:
        # A living object has one reference of this kind, so they need not be followed; tensors compare by element.
        return isinstance(other, Look) and self._tensor is other._tensor and self.version == other.version

    def __bool__(self) -> bool:
        """Whether there was a gradient."""
        return self._tensor is not None

    def is_in(self, other: Look) -> bool:
        """Whether it was in the memory that another look found it in."""
        return self.memory is other.memory

    def is_as_left(self, other: Look) -> bool:
        """Whether nothing was written there since another look, after which no backward has run."""
        return self.memory is other.memory and self.version == other.version

"""Gradients as metadata sees them: which buffer, which version, held weakly."""

from __future__ import annotations

import operator
import weakref

import torch
from torch import Tensor

reference = weakref.ref


gradient_of = operator.attrgetter("grad")


version_of = operator.attrgetter("_version")


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured on the current stream: nothing may be read or queued then."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def held_state(gradients: list[Tensor | None]) -> tuple[list[weakref.ref[Tensor] | None], list[int]]:
    """Weak references to gradients, None where there is none, and their versions."""
    try:
        return list(map(reference, gradients)), list(map(version_of, gradients))  # type: ignore[arg-type]
    except TypeError:  # one of them is None
        return (
            [None if item is None else reference(item) for item in gradients],
            [0 if item is None else item._version for item in gradients],
        )


NOTHING = (0, -1)


def state(buffer: Tensor | None) -> tuple[int, int]:
    """Identity and version of a gradient; enough to see a change while a backward runs."""
    return NOTHING if buffer is None else (id(buffer), buffer._version)

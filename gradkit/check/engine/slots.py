"""The inputs whose gradient is checked, and the parts of a hand-written gradient that belong to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from gradkit.check.engine.errors import CheckInputError


@dataclass(frozen=True)
class Slot:
    """One input tensor whose gradient is checked.

    Attributes:
        name: How the result names it, such as `input 0` or `inputs['w']`.
        position: Its place among all leaves of the inputs.
        shape: Its shape.
        dtype: Its dtype in the check.
        offset: Where it begins in the flat vector.
    """

    name: str
    position: int
    shape: torch.Size
    dtype: torch.dtype
    offset: int

    @property
    def numel(self) -> int:
        """Number of elements."""
        return self.shape.numel()

    @property
    def span(self) -> slice:
        """Its part of the flat vector."""
        return slice(self.offset, self.offset + self.numel)


def parts_by_hand(returned: Any, slots: Sequence[Slot], leaves: int, device: torch.device) -> list[Tensor | None]:
    """What a hand-written gradient returned, one part for each slot; None stands for zeros.

    Args:
        returned: A tensor or number, or several in a tuple, list or dictionary, for the slots or for all leaves.
        slots: What was differentiated.
        leaves: Number of all leaves of the inputs.
        device: Of numbers that are no tensors.

    Raises:
        CheckInputError: The wrong number, shape or kind of parts.
    """
    if isinstance(returned, Mapping):
        parts = tree_flatten(dict(returned), is_leaf=lambda each: each is None)[0]
    elif isinstance(returned, (tuple, list)):
        parts = tree_flatten(list(returned), is_leaf=lambda each: each is None)[0]
    else:
        parts = [returned]
    if len(parts) == leaves != len(slots):
        parts = [parts[slot.position] for slot in slots]
    if len(parts) != len(slots):
        names = ", ".join(slot.name for slot in slots)
        raise CheckInputError(
            f"the hand-written gradient has {len(parts)} part(s), expected {len(slots)}: one for each of {names}."
        )
    checked: list[Tensor | None] = []
    for slot, part in zip(slots, parts, strict=True):
        if isinstance(part, (int, float)) and not isinstance(part, bool):
            part = torch.tensor(float(part), dtype=torch.float64, device=device)
        if part is not None and not isinstance(part, Tensor):
            raise CheckInputError(
                f"the hand-written gradient of {slot.name} is a {type(part).__name__}, expected a tensor."
            )
        if part is not None and part.shape != slot.shape:
            raise CheckInputError(
                f"the hand-written gradient of {slot.name} has shape {tuple(part.shape)},"
                f" expected {tuple(slot.shape)} like the input."
            )
        checked.append(part)
    return checked

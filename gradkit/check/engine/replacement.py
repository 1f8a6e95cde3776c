"""Other whole numbers in the place of those that are there: token identities that occur in the batch."""

from __future__ import annotations

import torch
from torch import Tensor


def others(part: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
    """Each number of `part` replaced by another one that occurs in `values`; itself where there is none.

    Args:
        part: Integers, any shape.
        values: All integers of the tensor it is part of.
        generator: Draws which.
    """
    known = values.unique()
    ranks = torch.searchsorted(known, part.contiguous())
    steps = torch.randint(1, max(2, known.numel()), part.shape, generator=generator).to(ranks)
    found: Tensor = known[(ranks + steps) % known.numel()]
    return found

"""Tensors to numbers: the only file that waits for a device, on a budget it measures itself."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from gradkit.observe.tensors.transforms import has_numbers

FREE_READS = 16
"""Reads made whatever they cost: enough to learn how each of a few optimizers is cleared."""


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The 2-norm of each tensor as a 0-d tensor on its device, queued without waiting for the device.

    Sparse gradients count their stored values, sharded ones their local part (a collective of ours could hang a run); a
    wider dtype is used where the 2-norm of a half would overflow.
    Source: docs/observer.md: the infinity norm is up to thirteen times slower on a CPU.
    """
    with torch.no_grad():
        local = [plain(tensor) for tensor in tensors]
        if all(tensor.dtype in FULL for tensor in local):
            return list(torch._foreach_norm(local))
        return [torch.linalg.vector_norm(tensor, dtype=_wide(tensor.dtype)) for tensor in local]


FULL = frozenset({torch.float32, torch.float64})
"""Dtypes wide enough for the 2-norm of their own numbers."""


def plain(tensor: Tensor) -> Tensor:
    """The dense tensor behind a wrapper: the local shard of a DTensor, the values of a sparse one, else itself."""
    local = getattr(tensor, "_local_tensor", None)  # DTensor
    if isinstance(local, Tensor):
        tensor = local
    if tensor.layout is torch.strided:
        return tensor
    return tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()


def _wide(dtype: torch.dtype) -> torch.dtype | None:
    return torch.float32 if dtype.itemsize < 4 and not dtype.is_complex else None


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors of one shape hold the same numbers; waits for their device."""
    return torch.equal(first, second)


def number_of(value: Tensor | float) -> float:
    """A number that may lie in a tensor; waits for its device."""
    return float(value)


def cosine(first: Tensor, second: Tensor) -> float:
    """The cosine of the angle between two tensors of one shape; waits for their device."""
    with torch.no_grad():
        a, b = first.detach().reshape(-1).double(), second.detach().reshape(-1).double()
        return float(torch.dot(a, b) / (a.norm() * b.norm()))


class Reader:
    """Brings queued numbers to the host and keeps the time spent below a share of the time that has passed.

    Args:
        budget: Largest share of wall time spent waiting, after `FREE_READS`; 0.01 is 1 %.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.seconds = 0.0
        self.reads = 0
        self._started = time.perf_counter()

    def allows(self) -> bool:
        """Whether another read fits the budget now."""
        if self.reads < FREE_READS:
            return True
        return self.seconds <= self.budget * (time.perf_counter() - self._started)

    def norms(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """`norms` of the tensors, its time counted against the budget."""
        started = time.perf_counter()
        queued = norms(tensors)
        self.seconds += time.perf_counter() - started
        return queued

    def read(self, numbers: Sequence[Tensor]) -> list[float]:
        """The values of 0-d tensors, in order; waits once per device and dtype they have."""
        started = time.perf_counter()
        kinds: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        values = [0.0] * len(numbers)
        for index, number in enumerate(numbers):
            if has_numbers(number):
                kinds.setdefault((number.device, number.dtype), []).append(index)
            else:  # as memory is estimated with: nothing is known
                values[index] = math.nan
        with torch.no_grad():
            for indices in kinds.values():
                for index, value in zip(indices, torch.stack([numbers[i] for i in indices]).tolist(), strict=True):
                    values[index] = float(value)
        self.reads += 1
        self.seconds += time.perf_counter() - started
        return values

"""What every data source hands over: labelled samples, readable block by block, not yet split or scaled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BLOCK_NUMBERS = 2**20
"""Numbers in one block: 8 MiB as float64, small enough to stay in a last-level cache."""


class RowBlocks(Protocol):
    """Features that can be walked through any number of times without holding a second copy of them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, *input_shape)."""

    def blocks(self) -> Iterator[Array]:
        """Yield consecutive blocks of rows, (rows, *input_shape), of a real or boolean dtype.

        The blocks are the same on every walk and may be read-only views.
        """


@dataclass(frozen=True)
class ArrayBlocks:
    """Features in an array, in memory or memory-mapped.

    Attributes:
        array: (samples, *input_shape), a real or boolean dtype.
    """

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, *input_shape)."""
        return self.array.shape

    def blocks(self) -> Iterator[Array]:
        """Yield slices of the array, views."""
        rows = rows_per_block(self.shape)
        for start in range(0, len(self.array), rows):
            yield self.array[start : start + rows]


@dataclass(frozen=True)
class Samples:
    """Labelled samples of one source.

    Attributes:
        where: The source in words, to open an error message: "data.path='x.csv'".
        features: The features.
        targets: (samples,), float32, 0 or 1.
        feature_names: One name per number of a sample, in memory order.
        label_mapping: Label in the source to target.
        fingerprint: See `Dataset.fingerprint`.
        notes: Conversions made so far, one sentence each.
        one_scale: Scale all numbers of a sample alike (pixels) instead of each feature by itself.
        fit: Gives the samples again once it is known which rows are the training split's, where it decides about the
            features; None where they are as they will be.
    """

    where: str
    features: RowBlocks
    targets: Array
    feature_names: tuple[str, ...]
    label_mapping: dict[str, int]
    fingerprint: str
    notes: tuple[str, ...] = ()
    one_scale: bool = False
    fit: Callable[[Array], Samples] | None = None


def rows_per_block(shape: tuple[int, ...]) -> int:
    """Rows of a block of about `BLOCK_NUMBERS` numbers, at least one."""
    return max(1, BLOCK_NUMBERS // max(1, int(np.prod(shape[1:]))))

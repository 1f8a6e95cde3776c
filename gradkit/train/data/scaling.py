"""Mean and spread of the training split, worked out block by block in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradkit.errors import DataError
from gradkit.train.data.files import quoted
from gradkit.train.data.samples import Array, Samples


@dataclass(frozen=True)
class Scale:
    """What is subtracted from a feature, and what the rest is divided by.

    Attributes:
        mean: (features,) or (1,), float64.
        deviation: (features,) or (1,), float64, above 0; population standard deviation, 1 for a constant feature.
        constant: Numbers of the features that are constant in the training split.
    """

    mean: Array
    deviation: Array
    constant: Array


class Moments:
    """Running mean, sum of squared deviations and range of each column.

    Blocks are merged pairwise, which stays accurate for means far from zero.

    Source:
        Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979,
        equation 2.1.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean: Array = np.zeros(1)
        self._squares: Array = np.zeros(1)
        self._low: Array = np.full(1, np.inf)
        self._high: Array = np.full(1, -np.inf)

    def add(self, block: Array) -> None:
        """Take in a block, (rows, columns), float64."""
        if not len(block):
            return
        # Overflow is looked for once, in `scale`.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = block.mean(axis=0)
            squares = np.square(block - mean).sum(axis=0)
            total = self._count + len(block)
            step = mean - self._mean
            self._squares = self._squares + squares + np.square(step) * (self._count * len(block) / total)
            self._mean = self._mean + step * (len(block) / total)
        self._low = np.minimum(self._low, block.min(axis=0))
        self._high = np.maximum(self._high, block.max(axis=0))
        self._count = total

    def scale(self, samples: Samples) -> Scale:
        """The scale of each column.

        Raises:
            DataError: The numbers of a column are too large, or too close together, for float64 arithmetic.
        """
        # The range is exact; the deviation of a constant 0.1 is not always exactly 0.
        constant = self._low == self._high
        deviation = np.where(constant, 1.0, np.sqrt(self._squares / self._count))
        with np.errstate(over="ignore"):
            usable = np.isfinite(self._mean) & np.isfinite(deviation) & np.isfinite(1 / np.maximum(deviation, 1e-310))
        if not (usable & (deviation > 0)).all():
            column = int(np.argmin(usable & (deviation > 0)))
            raise DataError(
                f"{samples.where}: the numbers of column {quoted([samples.feature_names[column]])}, from "
                f"{self._low[column]:g} to {self._high[column]:g}, cannot be scaled in float64; rescale or drop it."
            )
        mean = np.where(constant, self._low, self._mean)
        return Scale(mean, deviation, np.flatnonzero(constant))

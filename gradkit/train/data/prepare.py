"""Samples of any source to a data set: check the numbers, split, scale, and store as float32 tensors."""

from __future__ import annotations

import numpy as np
import torch

from gradkit.errors import DataError
from gradkit.train.data.dataset import Dataset, Split
from gradkit.train.data.files import quoted, require_memory
from gradkit.train.data.samples import Array, Samples
from gradkit.train.data.scaling import Moments, Scale
from gradkit.train.data.splits import SplitIndices, stratified_indices
from gradkit.train.schema.data import DataConfig

EXACT_INTEGERS = 2**53
"""Integers up to this size are exact in float64."""


def prepare(samples: Samples, config: DataConfig, seed: int) -> Dataset:
    """Split samples by seed and scale them with the statistics of the training split.

    Features are read twice, in blocks: once to check them and to find mean and standard deviation (float64), once
    to write the scaled numbers. Beside the source, only the float32 result is held.

    Args:
        samples: Labelled samples.
        config: Fractions, and whether to scale.
        seed: Seed of the split.

    Raises:
        DataError: A number is NaN or infinite or does not fit float32, a class is too small to split, or the result
            does not fit in memory.
    """
    indices = stratified_indices(
        samples.targets,
        config.validation_fraction,
        config.test_fraction,
        seed,
        where=samples.where,
        label_mapping=samples.label_mapping,
    )
    if samples.fit is not None:
        samples = samples.fit(indices.train)
    shape = samples.features.shape
    require_memory(4 * int(np.prod(shape, dtype=object)), samples.where)
    scale, notes = _inspect(samples, indices, config.standardize)
    train, validation, test = _write(samples, indices, scale)
    return Dataset(
        name=config.name,
        train=train,
        validation=validation,
        test=test,
        input_shape=tuple(shape[1:]),
        feature_names=samples.feature_names,
        fingerprint=samples.fingerprint,
        label_mapping=samples.label_mapping,
        notes=(*samples.notes, *notes),
    )


def _inspect(samples: Samples, indices: SplitIndices, standardize: bool) -> tuple[Scale | None, list[str]]:
    moments = Moments()
    start = non_finite = 0
    first: tuple[int, int] | None = None
    rounded = False
    for block in samples.features.blocks():
        finite = np.isfinite(block)
        if not finite.all():
            non_finite += int(finite.size - np.count_nonzero(finite))
            if first is None:
                row, column = divmod(int(finite.argmin()), int(np.prod(block.shape[1:])))
                first = (start + row, column)
        if block.dtype.kind in "iu" and block.dtype.itemsize == 8 and not rounded:
            rounded = int(block.max()) > EXACT_INTEGERS or int(block.min()) < -EXACT_INTEGERS
        if standardize and first is None:
            rows, _ = _rows_in(indices.train, start, len(block))
            with np.errstate(over="ignore"):  # a long double may be beyond float64, which `Moments.scale` finds
                numbers = block[rows].reshape(-1, 1 if samples.one_scale else _width(block)).astype(np.float64)
            moments.add(numbers)
        start += len(block)
    if first is not None:
        row, column = first
        raise DataError(
            f"{samples.where}: {non_finite} {'number is' if non_finite == 1 else 'numbers are'} NaN or infinite, the "
            f"first in column {quoted([samples.feature_names[column]])} at sample {row + 1} of {start}."
        )
    notes = ["Integers above 2**53 were rounded to float64."] if rounded else []
    if not standardize:
        return None, notes
    scale = moments.scale(samples)
    if len(scale.constant):
        names = quoted([samples.feature_names[column] for column in scale.constant])
        notes.append(f"Constant in the training split, so shifted to 0 but not scaled: {names}.")
    return scale, notes


def _write(samples: Samples, indices: SplitIndices, scale: Scale | None) -> list[Split]:
    shape = samples.features.shape[1:]
    # NumPy asks the kernel for huge pages, which torch's allocator does not: random gathers miss the TLB less.
    outputs: list[Array] = [np.empty((len(chosen), *shape), dtype=np.float32) for chosen in indices]
    start = 0
    for block in samples.features.blocks():
        for chosen, output in zip(indices, outputs, strict=True):
            rows, place = _rows_in(chosen, start, len(block))
            numbers = block[rows]
            # Checked below: a number may overflow float32, or its distance from the mean float64.
            with np.errstate(over="ignore", invalid="ignore"):
                if scale is not None:
                    flat = numbers.reshape(-1, 1 if samples.one_scale else _width(block)).astype(np.float64)
                    flat -= scale.mean
                    flat /= scale.deviation
                    numbers = flat.reshape(numbers.shape)
                output[place] = numbers
            fits = np.isfinite(output[place])
            if not fits.all():
                row, column = divmod(int(fits.argmin()), _width(block))
                raise DataError(
                    f"{samples.where}: a number in column {quoted([samples.feature_names[column]])} at sample "
                    f"{int(chosen[place][row]) + 1} is too large for float32{' once scaled' if scale else ''}."
                )
        start += len(block)
    return [
        Split(torch.from_numpy(output), torch.from_numpy(samples.targets[chosen]))
        for chosen, output in zip(indices, outputs, strict=True)
    ]


def _rows_in(chosen: Array, start: int, count: int) -> tuple[Array, slice]:
    """Rows of a block that belong to a split, counted from the block's start, and their place in the split."""
    low, high = np.searchsorted(chosen, (start, start + count))
    return chosen[low:high] - start, slice(int(low), int(high))


def _width(block: Array) -> int:
    return int(np.prod(block.shape[1:]))

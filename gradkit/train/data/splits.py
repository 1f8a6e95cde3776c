"""Divide samples into training, validation and test, each with the same share of both classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gradkit.errors import ConfigError, DataError
from gradkit.train.data.samples import Array


class SplitIndices(NamedTuple):
    """Row numbers of each split, (samples of the split,), int64, ascending."""

    train: Array
    validation: Array
    test: Array


def stratified_indices(
    targets: Array,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    *,
    where: str,
    label_mapping: dict[str, int],
) -> SplitIndices:
    """Split every class by itself, at random.

    For class 0, then class 1: its row numbers are permuted; the first round(test_fraction * count) are test, the
    next round(validation_fraction * count) validation, the rest training, with at least one in each. Row numbers
    of a split are then sorted, so a split keeps the order of its source. Rounding is to even, as in Python.

    scikit-learn's `train_test_split` may leave a rare class out of the smaller splits, where AUROC is then undefined.

    Args:
        targets: (samples,), 0 or 1.
        validation_fraction: Share of the samples for validation, above 0.
        test_fraction: Share of the samples for the test, above 0.
        seed: 0 to 2**32 - 1; the same seed always gives the same split.
        where: The source in words, to open an error message.
        label_mapping: Label to target, to name a class that is too small.

    Raises:
        ConfigError: The fractions leave nothing to train on.
        DataError: A class has fewer samples than there are splits.
    """
    if validation_fraction + test_fraction >= 1:
        raise ConfigError(
            f"data.validation_fraction={validation_fraction:g} and data.test_fraction={test_fraction:g} leave nothing "
            "to train on: their sum must be below 1."
        )
    # RandomState, unlike Generator, promises the same numbers in every release of NumPy (NEP 19).
    random = np.random.RandomState(seed)
    parts: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    for value in (0, 1):
        rows = np.flatnonzero(targets == value)
        test = max(1, round(test_fraction * len(rows)))
        validation = max(1, round(validation_fraction * len(rows)))
        if len(rows) < test + validation + 1:
            label = next(label for label, target in label_mapping.items() if target == value)
            if len(rows) >= len(parts):
                raise DataError(
                    f"{where}: data.validation_fraction={validation_fraction:g} and data.test_fraction="
                    f"{test_fraction:g} take {validation} + {test} of the {len(rows)} samples of class {label!r}, "
                    "which leaves none to train on; take smaller fractions."
                )
            raise DataError(
                f"{where}: class {label!r} has {len(rows)} {'sample' if len(rows) == 1 else 'samples'}, too few to "
                "appear in training, validation and test; at least 3 are needed."
            )
        random.shuffle(rows)
        for part, chosen in zip(parts, np.split(rows, [len(rows) - test - validation, len(rows) - test]), strict=True):
            part.append(chosen)
    return SplitIndices(*(np.sort(np.concatenate(part)) for part in parts))

"""The target column of an Arrow table to 0 and 1."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from gradkit.errors import DataError
from gradkit.train.data.arrow_columns import is_number, is_text, kind_in_words
from gradkit.train.data.labels import Label, LabelPair, choose_labels, missing_labels
from gradkit.train.data.samples import Array


def map_column(column: Any, positive: str | None, where: str, name: str) -> tuple[Array, LabelPair]:
    """Targets from a column of labels.

    Args:
        column: pyarrow.ChunkedArray, as `decoded` gives it.
        positive: As for `choose_labels`.
        where: As for `choose_labels`.
        name: As for `choose_labels`.

    Returns:
        Targets, (samples,), float32, 0 or 1; and how they came about.

    Raises:
        DataError: As `choose_labels`, or labels are missing, not finite, or of another type.
        pyarrow.ArrowException: pyarrow cannot compare them.
    """
    import pyarrow
    from pyarrow import compute, types

    if not (is_text(column.type) or is_number(column.type) or types.is_null(column.type)):
        raise DataError(
            f"{where}: {name} holds {kind_in_words(column.type)}; expected numbers, booleans or text as labels."
        )
    absent = compute.is_null(column, nan_is_null=True)
    if is_text(column.type):
        absent = compute.or_kleene(absent, compute.equal(column, pyarrow.scalar("", column.type)))
    elif types.is_floating(column.type):
        absent = compute.or_kleene(absent, compute.invert(compute.is_finite(column)))
    count = compute.sum(absent).as_py()
    if count:
        first = compute.index(absent, True).as_py()
        raise DataError(missing_labels(where, name, count, first, len(column)))
    unique = compute.unique(column)
    # 0.0 and -0.0 are one label.
    values = list(dict.fromkeys(unique.slice(0, 8).to_pylist()))
    labels = _plain(values) if types.is_decimal(column.type) else values
    pair = choose_labels(labels, len(values) if len(unique) <= 8 else len(unique), positive, where, name)
    chosen = pyarrow.scalar(values[labels.index(pair.positive)], column.type)
    return compute.equal(column, chosen).to_numpy().astype(np.float32), pair


def _plain(values: list[Decimal]) -> list[Label]:
    """Decimals as numbers of Python's; where those of float64 would not tell them apart, as integers or text."""
    floats = [float(value) for value in values]
    if all(Decimal(repr(number)) == value for number, value in zip(floats, values, strict=True)):
        return list(floats)
    if all(value == value.to_integral_value() for value in values):
        return [int(value) for value in values]
    return [str(value) for value in values]

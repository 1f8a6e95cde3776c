"""What the training split decides about a table: how gaps are filled, and into which columns text is taken apart."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkit.errors import DataError
from gradkit.train.data.arrow_columns import is_text
from gradkit.train.data.files import quoted
from gradkit.train.data.samples import Array

MOST_CATEGORIES = 100
"""Different texts in one column; a column with more is a name or a sentence rather than a category."""


@dataclass(frozen=True)
class Fitted:
    """Columns of numbers without gaps.

    Attributes:
        names: One per column.
        columns: pyarrow.ChunkedArray of numbers or booleans, without nulls.
        notes: What was done, one sentence each.
    """

    names: tuple[str, ...]
    columns: tuple[Any, ...]
    notes: tuple[str, ...]


def fitted(columns: Mapping[str, Any], train: Array, missing: str | None, where: str) -> Fitted:
    """Fill the gaps and take the text apart by what the training split holds; the other splits only follow.

    Args:
        columns: pyarrow.ChunkedArray of numbers or text, by name.
        train: Numbers of the rows of the training split.
        missing: `mean` or `median`, where there are gaps.
        where: The source in words, to open an error message.

    Raises:
        DataError: The training split holds no number of a column, or too many different texts.
    """
    names: list[str] = []
    found: list[Any] = []
    filled: list[str] = []
    told: list[str] = []
    for name, column in columns.items():
        if is_text(column.type):
            categories, some = _categories(name, column, train, where)
            names += [f"{name}={category}" for category in categories]
            found += some
            told.append(f"{name!r} into {len(categories)}")
        elif column.null_count and missing is not None:
            names.append(name)
            found.append(_filled(name, column, train, missing, where))
            filled.append(name)
        else:
            names.append(name)
            found.append(column)
    notes = []
    if filled:
        notes.append(f"Gaps filled by the {missing} of the training split: {quoted(filled)}.")
    if told:
        notes.append(f"Text taken apart by the categories of the training split: {', '.join(told)} columns.")
    return Fitted(tuple(names), tuple(found), tuple(notes))


def _filled(name: str, column: Any, train: Array, strategy: str, where: str) -> Any:
    import pyarrow
    from pyarrow import compute
    from sklearn.impute import SimpleImputer

    numbers = column.cast(pyarrow.float64())
    training = numbers.take(pyarrow.array(train)).to_numpy().reshape(-1, 1)
    if not np.isfinite(training).any():
        raise DataError(f"{where}: column {quoted([name])} holds no number in the training split; leave it out.")
    imputer = SimpleImputer(strategy=strategy).fit(training)
    return compute.fill_null(numbers, float(imputer.statistics_[0]))


def _categories(name: str, column: Any, train: Array, where: str) -> tuple[list[str], list[Any]]:
    """The categories of a column of text and a column of true and false for each; a gap belongs to none."""
    import pyarrow
    from pyarrow import compute
    from sklearn.preprocessing import OneHotEncoder

    training = column.take(pyarrow.array(train)).drop_null()
    different = compute.count_distinct(training).as_py()
    if different > MOST_CATEGORIES:
        raise DataError(
            f"{where}: column {quoted([name])} holds {different} different texts, more than the {MOST_CATEGORIES} that"
            " data.text=onehot takes apart; leave it out by data.text=drop or data.features."
        )
    if not different:
        raise DataError(f"{where}: column {quoted([name])} holds no text in the training split; leave it out.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = OneHotEncoder().fit(training.to_numpy(zero_copy_only=False).astype(object).reshape(-1, 1))
    categories: Sequence[str] = [str(each) for each in encoder.categories_[0]]
    scalars = [pyarrow.scalar(each, column.type) for each in categories]
    return list(categories), [compute.fill_null(compute.equal(column, each), False) for each in scalars]

"""Which columns of a table to train on."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence

from gradkit.errors import DataError, did_you_mean
from gradkit.train.data.files import quoted


def choose_features(names: Sequence[str], features: Sequence[str] | None, where: str) -> list[str]:
    """The chosen feature columns: all, or those asked for, in the order asked for.

    Args:
        names: Columns there are.
        features: The user's choice (`data.features`); None takes all.
        where: The source in words, to open an error message.

    Raises:
        DataError: The choice is empty, repeats a column or names one that is not there.
    """
    if features is None:
        return list(names)
    if not features:
        raise DataError(f"{where}: data.features is empty; expected at least one column.")
    for name in features:
        if name not in names:
            raise DataError(f"{where}: {name!r} in data.features {not_a_column(name, names)}")
    check_unique(features, where, "data.features")
    return list(features)


def choose_columns(
    names: Sequence[str], target: str, features: Sequence[str] | None, where: str, left_out: Collection[str] = ()
) -> list[str]:
    """The feature columns of a table: those asked for, or all but the target.

    Args:
        names: Columns of the table.
        target: The user's target column (`data.target`).
        features: The user's choice (`data.features`); None takes all.
        where: The source in words, to open an error message.
        left_out: Columns not taken unless the user chose them.

    Raises:
        DataError: Names repeat, are not there, or leave nothing to train on.
    """
    check_unique(names, where, "the header")
    if target not in names:
        raise DataError(f"{where}: data.target={target!r} {not_a_column(target, names)}")
    if features is not None and target in features:
        raise DataError(f"{where}: data.features contains the target {target!r}; it would give the answer away.")
    others = [name for name in names if name != target and (features is not None or name not in left_out)]
    chosen = choose_features(others, features, where)
    if not chosen:
        raise DataError(f"{where}: has no column but the target {target!r}; expected at least one feature.")
    return chosen


COUNTERS = re.compile(r"id|index|row|row_?id|unnamed: \d+", re.IGNORECASE)
"""Names that exports give to a column that counts the rows."""


def is_counter(name: str) -> bool:
    """Whether a column of this name is no feature where it counts the rows; a model would learn the file's order."""
    return COUNTERS.fullmatch(name.strip()) is not None


def normal(name: str) -> str:
    """A name as Unicode composes it (NFC): a letter and its accent, written as one or as two, are the same name."""
    return unicodedata.normalize("NFC", name)


def may_number_rows(name: str) -> bool:
    """Whether pandas may have written a column of this name to number the rows: it has none, or `__index_level_N__`.

    A model would learn the order of the file from it.
    """
    return name == "" or (name.startswith("__index_level_") and name.endswith("__"))


def check_unique(names: Sequence[str], where: str, what: str) -> None:
    """Refuse names that appear more than once.

    Raises:
        DataError: A name is repeated.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"{where}: {what} has more than one column {quoted(repeated)}; expected unique names.")


def not_a_column(name: str, names: Sequence[str]) -> str:
    """The end of a sentence about a name that is not among the columns, with the nearest that is."""
    alike = [other for other in names if other.strip().casefold() == name.strip().casefold()]
    nearest = f" Did you mean {alike[0]!r}?" if alike else did_you_mean(name, names)
    return f"is not a column.{nearest} The columns are {quoted(names, 8)}."

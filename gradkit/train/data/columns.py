"""Which columns of a table to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

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
            raise DataError(f"{where}: data.features names {name!r}, {not_a_column(name, names)}")
    check_unique(features, where, "data.features")
    return list(features)


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
    return f"which is not a column.{did_you_mean(name, names)} The columns are {quoted(names, 8)}."

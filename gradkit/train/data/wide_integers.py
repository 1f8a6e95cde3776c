"""Integers of text that do not fit 64 bits, which pyarrow reads as rounded float64 without a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradkit.train.data.prepare import EXACT_INTEGERS

LITERAL = r"^[ \t]*[+-]?[0-9]+[ \t]*$"


def wide_integers(
    columns: Mapping[str, Any], as_text: Callable[[Sequence[str]], Any] | None, written: Mapping[str, str]
) -> dict[str, Any]:
    """The columns of float64 that are written as integers throughout, some above 2**53, as they are written.

    Args:
        columns: pyarrow.ChunkedArray by name.
        as_text: Reads some columns again as text, giving a pyarrow.Table; None where no types were inferred.
        written: The name of each column as the file has it.

    Returns:
        pyarrow.ChunkedArray by name, of decimals, or of text where an integer has more than 76 digits.
    """
    import pyarrow
    from pyarrow import compute

    if as_text is None:
        return {}
    suspects = [name for name, column in columns.items() if _may_be_rounded(column)]
    if not suspects:
        return {}
    table = as_text([written[name] for name in suspects])
    found = {}
    for name in suspects:
        text = table.column(written[name])
        if not compute.all(compute.match_substring_regex(text, LITERAL)).as_py():
            continue
        text = compute.utf8_trim(text, " \t")
        try:
            found[name] = text.cast(pyarrow.decimal256(76, 0))
        except pyarrow.ArrowInvalid:
            found[name] = text
    return found


def _may_be_rounded(column: Any) -> bool:
    from pyarrow import compute, types

    if not types.is_float64(column.type):
        return False
    low, high = compute.min_max(column).as_py().values()
    if low is None or (low >= -EXACT_INTEGERS and high <= EXACT_INTEGERS):
        return False
    return bool(compute.all(compute.equal(compute.floor(column), column)).as_py())

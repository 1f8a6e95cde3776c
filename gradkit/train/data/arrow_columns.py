"""One column of an Arrow table: as a plain type, and what it holds in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

NUMBER = re.compile(r"[ \t]*([+-]?(nan|inf(inity)?|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?))?[ \t]*", re.ASCII | re.IGNORECASE)
"""A cell that does not keep a column from being one of numbers; `float` would also take '1_000' and '39\\n'."""


def decoded(column: Any) -> Any:
    """A column in the nearest type that pyarrow's functions take.

    Dictionaries (pandas: categorical) and views become plain columns, small floats and decimals larger ones, and
    bytes text, if all of them are UTF-8.

    Raises:
        pyarrow.ArrowException: pyarrow cannot convert it.
    """
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if types.is_float16(kind):
        return column.cast(pyarrow.float32())
    if types.is_string_view(kind):
        return column.cast(pyarrow.string())
    if types.is_decimal(kind) and kind.bit_width < 128:
        return column.cast(pyarrow.decimal128(38, kind.scale))
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        try:
            return column.cast(pyarrow.large_string() if types.is_large_binary(kind) else pyarrow.string())
        except pyarrow.ArrowInvalid:  # not UTF-8
            return column
    return column


def is_number(kind: Any) -> bool:
    """Whether a type is one of numbers or booleans."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind))


def is_text(kind: Any) -> bool:
    """Whether a type is one of text."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def kind_in_words(kind: Any) -> str:
    """What a column of a type holds; the types are those `decoded` leaves."""
    from pyarrow import types

    if is_text(kind):
        return "text"
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return "bytes that are not UTF-8 text" if binary else str(kind)


def is_date(kind: Any) -> bool:
    """Whether a type is one of dates or points in time."""
    from pyarrow import types

    return bool(types.is_date(kind) or types.is_timestamp(kind))


def days(column: Any) -> Any:
    """Dates and points in time as days since 1970, float64; what is missing stays so."""
    import pyarrow
    from pyarrow import compute

    microseconds = column.cast(pyarrow.timestamp("us", tz=getattr(column.type, "tz", None))).cast(pyarrow.int64())
    return compute.divide(microseconds.cast(pyarrow.float64(), safe=False), 86_400e6)


def without_marks(column: Any, marks: Sequence[str]) -> Any:
    """A column of text in which cells that are empty, or hold a mark of a missing cell, are missing."""
    import pyarrow
    from pyarrow import compute

    absent = compute.is_in(compute.utf8_trim_whitespace(column), value_set=pyarrow.array(["", *marks], column.type))
    return compute.if_else(absent, pyarrow.scalar(None, column.type), column)


def first_word(column: Any) -> tuple[str | None, int]:
    """The first cell of text that is not a number, often one stray mark among numbers, and its number, from 1."""
    position = 0
    for chunk in column.chunks:
        for cell in chunk:
            position += 1
            text = cell.as_py()
            if text is not None and not NUMBER.fullmatch(text):
                return text, position
    return None, 0


def is_row_number(column: Any) -> bool:
    """Whether a column counts the rows, from 0 or from 1."""
    import numpy as np
    from pyarrow import types

    if not types.is_integer(column.type) or column.null_count or not len(column):
        return False
    first = column[0].as_py()
    return first in (0, 1) and np.array_equal(column.to_numpy(), np.arange(first, first + len(column)))

"""A table read by pyarrow to labelled samples; pyarrow itself is imported late, as it is an extra."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from gradkit.config.arguments import as_argument
from gradkit.errors import DataError
from gradkit.train.data.arrow_columns import decoded, first_word, is_number, is_row_number, is_text, kind_in_words
from gradkit.train.data.arrow_labels import map_column
from gradkit.train.data.columns import choose_columns, may_number_rows
from gradkit.train.data.files import one_line, quoted
from gradkit.train.data.prepare import EXACT_INTEGERS
from gradkit.train.data.samples import Array, Samples, rows_per_block
from gradkit.train.data.wide_integers import wide_integers
from gradkit.train.schema.data import TableData

EXACT_DIGITS = 15
"""Decimals of up to this many digits survive float64 and back (C's DBL_DIG)."""

LONGEST_ARGUMENT = 200
"""Characters of an argument that a message suggests."""


@dataclass(frozen=True)
class ColumnBlocks:
    """Numeric columns of an Arrow table, put together block by block.

    Attributes:
        columns: pyarrow.ChunkedArray of numbers or booleans without nulls, all of one length.
        shape: (samples, columns).
    """

    columns: Sequence[Any]
    shape: tuple[int, ...]

    def blocks(self) -> Iterator[Array]:
        """Yield blocks, (rows, columns), float64; the next one reuses the memory."""
        rows = rows_per_block(self.shape)
        block = np.empty((min(rows, self.shape[0]), self.shape[1]), dtype=np.float64)
        for start in range(0, self.shape[0], rows):
            filled = block[: min(rows, self.shape[0] - start)]
            for index, column in enumerate(self.columns):
                filled[:, index] = column.slice(start, rows).to_numpy()
            yield filled


def import_pyarrow(where: str) -> ModuleType:
    """pyarrow, or a sentence on how to get it.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f"{where}: reading it needs pyarrow. Install it with: pip install gradkit[data]") from error
    return pyarrow  # type: ignore[no-any-return, unused-ignore]


def samples_from_table(
    table: Any,
    config: TableData,
    where: str,
    fingerprint: str,
    notes: Sequence[str | None],
    as_text: Callable[[Sequence[str]], Any] | None = None,
) -> Samples:
    """Labelled samples from a pyarrow.Table.

    Args:
        table: The table as read.
        config: Target, positive label and features.
        where: The file in words, to open an error message.
        fingerprint: Of the file.
        notes: Conversions made while reading, or None where there were none.
        as_text: Reads some columns again as they are written, where the types were inferred from text.

    Raises:
        DataError: The table cannot be trained on.
    """
    from pyarrow import ArrowException

    try:
        return _samples(table, config, where, fingerprint, [note for note in notes if note], as_text)
    except ArrowException as error:  # a type that pyarrow can read but not compute with
        raise DataError(f"{where}: cannot be used: {one_line(error)}.") from error


def _samples(
    table: Any,
    config: TableData,
    where: str,
    fingerprint: str,
    notes: list[str],
    as_text: Callable[[Sequence[str]], Any] | None,
) -> Samples:
    names = [str(name) for name in table.column_names]
    chosen = choose_columns(names, config.target, config.features, where)
    if table.num_rows == 0:
        raise DataError(f"{where}: has {len(names)} columns ({quoted(names)}) but no rows.")
    columns = {name: decoded(table.column(name)) for name in chosen}
    if config.features is None:
        left_out, why = _unnamed(columns)
        notes.extend(why)
        chosen = choose_columns(names, config.target, None, where, left_out)
    columns = {name: columns[name] for name in chosen}
    _check_numeric(columns, where)
    _check_complete(columns, where)
    target = decoded(table.column(config.target))
    wide = wide_integers({**columns, config.target: target}, as_text)
    notes.extend(_type_notes(columns, wide))
    targets, pair = map_column(wide.get(config.target, target), config.positive, where, f"column {config.target!r}")
    if pair.note:
        notes.append(pair.note)
    return Samples(
        where=where,
        features=ColumnBlocks([_as_number(column) for column in columns.values()], (table.num_rows, len(chosen))),
        targets=targets,
        feature_names=tuple(chosen),
        label_mapping=pair.mapping,
        fingerprint=fingerprint,
        notes=tuple(notes),
    )


def _unnamed(columns: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Columns that are no feature unless asked for, and what to say of these and of others like them."""
    left_out, notes = [], []
    for name, column in columns.items():
        if not may_number_rows(name):
            continue
        if column.null_count == len(column):
            reason = "it is empty"
        elif is_row_number(column):
            reason = "it numbers the rows"
        elif name:
            reason = "it is an index written by pandas"
        elif not is_number(column.type):
            reason = f"it has no name and holds {kind_in_words(column.type)}"
        else:
            notes.append(f"A feature, though it has no name, as it does not number the rows: {name!r}.")
            continue
        left_out.append(name)
        notes.append(f"Left out, as {reason}: {name!r}.")
    return left_out, notes


def _as_number(column: Any) -> Any:
    from pyarrow import float64, types

    return column.cast(float64()) if types.is_decimal(column.type) else column


def _check_numeric(columns: dict[str, Any], where: str) -> None:
    from pyarrow import types

    other = [name for name, column in columns.items() if not (is_number(column.type) or types.is_null(column.type))]
    if not other:
        return
    column = columns[other[0]]
    what = f"column {quoted(other[:1])} holds {kind_in_words(column.type)}"
    if is_text(column.type):
        what += first_word(column)
    if len(other) > 1:
        what += f"; not numbers either: {quoted(other[1:])}"
    numeric = [name for name in columns if name not in other]
    raise DataError(f"{where}: {what}; expected numbers{_remedy(numeric)}.")


def _remedy(numeric: Sequence[str]) -> str:
    """What to add to the command to train on the columns of numbers; a message's one line changes some names."""
    usable = [name for name in numeric if name.isprintable() and " ".join(name.split()) == name]
    some = list(usable)
    while some and len(argument := as_argument("data.features", some)) > LONGEST_ARGUMENT:
        some.pop()
    if not some:
        return ""
    if len(some) == len(numeric):
        return f"; name those to train on, {argument}"
    return f"; name those to train on, such as {argument} ({len(numeric) - len(some)} more hold numbers)"


def _check_complete(columns: dict[str, Any], where: str) -> None:
    from pyarrow import compute

    gaps = {name: column.null_count for name, column in columns.items() if column.null_count}
    if not gaps:
        return
    name, column = next((name, columns[name]) for name in gaps)
    first = compute.index(compute.is_null(column), True).as_py()
    more = f" ({sum(gaps.values())} in {len(gaps)} columns)" if len(gaps) > 1 else ""
    raise DataError(
        f"{where}: column {quoted([name])} has {gaps[name]} missing {'cell' if gaps[name] == 1 else 'cells'}{more}, "
        f"the first at sample {first + 1} of {len(column)}; fill the gaps or drop the column or rows."
    )


def _type_notes(columns: dict[str, Any], wide: Container[str]) -> list[str]:
    from pyarrow import types

    booleans = [name for name, column in columns.items() if types.is_boolean(column.type)]
    rounded = [name for name, column in columns.items() if name in wide or _has_wide_integers(column)]
    decimals = [name for name, column in columns.items() if _has_long_decimals(column)]
    notes = []
    if booleans:
        notes.append(f"Read as 0 (false) and 1 (true): {quoted(booleans)}.")
    if rounded:
        notes.append(f"Integers above 2**53 were rounded to float64: {quoted(rounded)}.")
    if decimals:
        notes.append(f"Decimals of more than {EXACT_DIGITS} digits were rounded to float64: {quoted(decimals)}.")
    return notes


def _has_wide_integers(column: Any) -> bool:
    from pyarrow import compute, types

    kind = column.type
    if not (types.is_int64(kind) or types.is_uint64(kind) or (types.is_decimal(kind) and kind.scale <= 0)):
        return False
    low, high = compute.min_max(column).as_py().values()
    return bool(low < -EXACT_INTEGERS or high > EXACT_INTEGERS)


def _has_long_decimals(column: Any) -> bool:
    from pyarrow import compute, types

    if not types.is_decimal(column.type) or column.type.scale <= 0:
        return False
    ends = compute.min_max(column).as_py().values()
    return any(len(end.as_tuple().digits) > EXACT_DIGITS for end in ends)

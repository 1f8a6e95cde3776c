"""A table read by pyarrow to labelled samples; pyarrow itself is imported late, as it is an extra."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from gradkit.config.arguments import as_argument
from gradkit.errors import DataError
from gradkit.train.data.arrow_columns import (
    days,
    decoded,
    first_word,
    is_date,
    is_number,
    is_row_number,
    is_text,
    kind_in_words,
    without_marks,
)
from gradkit.train.data.arrow_labels import map_column
from gradkit.train.data.columns import choose_columns, is_counter, may_number_rows, normal
from gradkit.train.data.dialect import MARKS, in_pages
from gradkit.train.data.files import one_line, quoted
from gradkit.train.data.gaps import MOST_CATEGORIES, fitted
from gradkit.train.data.prepare import EXACT_INTEGERS
from gradkit.train.data.samples import Array, Samples, rows_per_block
from gradkit.train.data.wide_integers import wide_integers
from gradkit.train.schema.data import CsvData, TableData

EXACT_DIGITS = 15
"""Decimals of up to this many digits survive float64 and back (C's DBL_DIG)."""

COMMA = re.compile(r"[+-]?[0-9.]*[0-9],[0-9]+")
"""A number whose decimal point is a comma."""

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
    line_of: Callable[[int], int | None] = lambda sample: None,
) -> Samples:
    """Labelled samples from a pyarrow.Table.

    Args:
        table: The table as read.
        config: Target, positive label and features.
        where: The file in words, to open an error message.
        fingerprint: Of the file.
        notes: Conversions made while reading, or None where there were none.
        as_text: Reads some columns again as they are written, where the types were inferred from text.
        line_of: The line of the file on which a sample, counted from 0, stands; None where there are none.

    Raises:
        DataError: The table cannot be trained on.
    """
    from pyarrow import ArrowException

    try:
        return _samples(table, config, where, fingerprint, [note for note in notes if note], as_text, line_of)
    except ArrowException as error:  # a type that pyarrow can read but not compute with
        raise DataError(f"{where}: cannot be used: {one_line(error)}.") from error


def _samples(
    table: Any,
    config: TableData,
    where: str,
    fingerprint: str,
    notes: list[str],
    as_text: Callable[[Sequence[str]], Any] | None,
    line_of: Callable[[int], int | None],
) -> Samples:
    # One name may be written in two ways, as an accent can be a letter of its own.
    written = {normal(str(name)): str(name) for name in table.column_names}
    table = table.rename_columns([normal(str(name)) for name in table.column_names])
    target_name, features = normal(config.target), config.features and [normal(name) for name in config.features]
    names = list(table.column_names)
    chosen = choose_columns(names, target_name, features, where)
    if table.num_rows == 0:
        raise DataError(f"{where}: has {len(names)} columns ({quoted(names)}) but no rows.")
    columns = {name: decoded(table.column(name)) for name in chosen}
    if features is None:
        left_out, why = _unnamed(columns)
        for kind, wanted, is_one in (("text", config.text, is_text), ("dates", config.dates, is_date)):
            other = [name for name in columns if name not in left_out and is_one(columns[name].type)]
            if wanted == "drop" and other:
                left_out += other
                why.append(f"Left out, as data.{kind}=drop says: {quoted(other)}.")
        notes.extend(why)
        chosen = choose_columns(names, target_name, None, where, left_out)
    columns = {name: columns[name] for name in chosen}
    if config.dates == "ordinal" and (dates := [name for name in columns if is_date(columns[name].type)]):
        columns |= {name: days(columns[name]) for name in dates}
        notes.append(f"Read as days since 1970: {quoted(dates)}.")
    if config.text == "onehot":
        columns = {name: without_marks(each, MARKS) if is_text(each.type) else each for name, each in columns.items()}
    _check_numeric(columns, where, config, line_of)
    target = decoded(table.column(target_name))
    if config.missing == "drop":
        columns, target, dropped = _without_gaps(columns, target, where)
        if dropped:
            notes.append(f"Left out {dropped} of {table.num_rows} samples, as they have missing cells.")
            as_text = None  # the rows as written are no longer the rows there are
    elif config.missing is None:
        _check_complete(columns, where, line_of)
    wide = wide_integers({**_numbers(columns), target_name: target}, as_text, written)
    notes.extend(_type_notes(columns, wide))
    targets, pair = map_column(wide.get(target_name, target), config.positive, where, f"column {target_name!r}")
    if pair.note:
        notes.append(pair.note)
    made = Samples(
        where=where,
        features=ColumnBlocks([_as_number(column) for column in columns.values()], (len(targets), len(chosen))),
        targets=targets,
        feature_names=tuple(chosen),
        label_mapping=pair.mapping,
        fingerprint=fingerprint,
        notes=tuple(notes),
    )
    if not any(is_text(column.type) or column.null_count for column in columns.values()):
        return made

    def fit(train: Array) -> Samples:
        found = fitted(columns, train, config.missing, where)
        blocks = ColumnBlocks([_as_number(column) for column in found.columns], (len(targets), len(found.columns)))
        return replace(made, features=blocks, feature_names=found.names, notes=(*made.notes, *found.notes))

    return replace(made, fit=fit)


def _numbers(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: column for name, column in columns.items() if not is_text(column.type)}


def _without_gaps(columns: dict[str, Any], target: Any, where: str) -> tuple[dict[str, Any], Any, int]:
    """The columns and the target without the rows in which a cell is missing, and the number of those."""
    import pyarrow
    from pyarrow import compute

    whole = pyarrow.chunked_array([np.ones(len(target), dtype=bool)])
    for column in (*columns.values(), target):
        whole = compute.and_(whole, compute.is_valid(column))
    if is_text(target.type):
        whole = compute.and_(
            whole, compute.fill_null(compute.not_equal(target, pyarrow.scalar("", target.type)), False)
        )
    kept = compute.sum(whole).as_py() or 0
    if not kept:
        raise DataError(f"{where}: every sample has a missing cell; fill them by data.missing=median.")
    if kept == len(target):
        return columns, target, 0
    return {name: each.filter(whole) for name, each in columns.items()}, target.filter(whole), len(target) - kept


def _unnamed(columns: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Columns that are no feature unless asked for, and what to say of these and of others like them."""
    left_out, notes = [], []
    for name, column in columns.items():
        if is_counter(name) and is_row_number(column):
            left_out.append(name)
            notes.append(f"Left out, as it numbers the rows: {name!r}.")
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


def _check_numeric(
    columns: dict[str, Any], where: str, config: TableData, line_of: Callable[[int], int | None]
) -> None:
    from pyarrow import types

    def usable(kind: Any) -> bool:
        return is_number(kind) or types.is_null(kind) or (config.text == "onehot" and is_text(kind))

    other = [name for name, column in columns.items() if not usable(column.type)]
    if not other:
        return
    column = columns[other[0]]
    what = f"column {quoted(other[:1])} holds {kind_in_words(column.type)}"
    remedies = []
    if is_text(column.type):
        cell, sample = first_word(column)
        if cell is not None:
            what += f" ({quoted([cell])} at sample {sample}{at_line(line_of, sample)})"
            remedies = _remedies(cell, column, config)
    elif types.is_binary(column.type) or types.is_large_binary(column.type):
        remedies = [in_pages("utf-8")]
    elif is_date(column.type):
        remedies = ["add data.dates=ordinal or data.dates=drop"]
    if len(other) > 1:
        what += f"; not numbers either: {quoted(other[1:])}"
    numeric = [name for name in columns if name not in other]
    remedy = "".join(f"; {each}" for each in [*remedies, *_remedy(numeric)])
    raise DataError(f"{where}: {what}; expected numbers{remedy}.")


def _remedies(cell: str, column: Any, config: TableData) -> list[str]:
    """What to add to the command for a column of text; only what works for it."""
    from pyarrow import compute

    if isinstance(config, CsvData) and config.decimal == "." and COMMA.fullmatch(cell) and config.delimiter != ",":
        return ["if the comma is the point of its numbers, add \"data.decimal=','\""]
    if config.missing is None and cell in MARKS:
        return [f"if {quoted([cell])} marks a missing cell, add data.missing=drop, mean or median"]
    if config.text is None and compute.count_distinct(column).as_py() <= MOST_CATEGORIES:
        return ["add data.text=onehot or data.text=drop"]
    return ["add data.text=drop"] if config.text is None else []


def at_line(line_of: Callable[[int], int | None], sample: int) -> str:
    """Where a sample, counted from 1, stands in its file: " (line 5)", or nothing where there are no lines."""
    line = line_of(sample - 1)
    return "" if line is None else f", line {line}"


def _remedy(numeric: Sequence[str]) -> list[str]:
    """What to add to the command to train on the columns of numbers; a message's one line changes some names."""
    usable = [name for name in numeric if name.isprintable() and " ".join(name.split()) == name]
    some = list(usable)
    while some and len(argument := as_argument("data.features", some)) > LONGEST_ARGUMENT:
        some.pop()
    if not some:
        return []
    if len(some) == len(numeric):
        return [f"name those to train on, {argument}"]
    return [f"name those to train on, such as {argument} ({len(numeric) - len(some)} more hold numbers)"]


def _check_complete(columns: dict[str, Any], where: str, line_of: Callable[[int], int | None]) -> None:
    from pyarrow import compute

    gaps = {name: column.null_count for name, column in columns.items() if column.null_count}
    if not gaps:
        return
    name, column = next((name, columns[name]) for name in gaps)
    first = compute.index(compute.is_null(column), True).as_py()
    more = f" ({sum(gaps.values())} in {len(gaps)} columns)" if len(gaps) > 1 else ""
    raise DataError(
        f"{where}: column {quoted([name])} has {gaps[name]} missing {'cell' if gaps[name] == 1 else 'cells'}{more}, "
        f"the first at sample {first + 1} of {len(column)}{at_line(line_of, first + 1)}; add data.missing=drop, mean or"
        " median, or leave the column out."
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

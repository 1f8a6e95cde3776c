"""A table read by pyarrow to labelled samples; pyarrow itself is imported late, as it is an extra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from gradkit.errors import DataError
from gradkit.train.data.columns import choose_columns
from gradkit.train.data.files import quoted
from gradkit.train.data.labels import LabelPair, choose_labels, missing_labels
from gradkit.train.data.prepare import EXACT_INTEGERS
from gradkit.train.data.samples import Array, Samples, rows_per_block
from gradkit.train.schema.data import TableData


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
    table: Any, config: TableData, where: str, fingerprint: str, notes: Sequence[str | None]
) -> Samples:
    """Labelled samples from a pyarrow.Table.

    Args:
        table: The table as read.
        config: Target, positive label and features.
        where: The file in words, to open an error message.
        fingerprint: Of the file.
        notes: Conversions made while reading, or None where there were none.

    Raises:
        DataError: The table cannot be trained on.
    """
    names = [str(name) for name in table.column_names]
    chosen, left_out = choose_columns(names, config.target, config.features, where)
    if table.num_rows == 0:
        raise DataError(f"{where}: has {len(names)} columns ({quoted(names)}) but no rows.")
    made = [note for note in notes if note]
    if left_out:
        made.append(f"Left out, as it numbers the rows: {quoted(left_out)}.")
    columns = {name: _decoded(table.column(name)) for name in chosen}
    _check_numeric(columns, where)
    _check_complete(columns, where)
    made.extend(_type_notes(columns))
    targets, pair = _targets(_decoded(table.column(config.target)), config.positive, where, f"column {config.target!r}")
    if pair.note:
        made.append(pair.note)
    return Samples(
        where=where,
        features=ColumnBlocks([_as_number(column) for column in columns.values()], (table.num_rows, len(chosen))),
        targets=targets,
        feature_names=tuple(chosen),
        label_mapping=pair.mapping,
        fingerprint=fingerprint,
        notes=tuple(made),
    )


def _decoded(column: Any) -> Any:
    """Dictionary-encoded (pandas: categorical) columns as plain ones."""
    import pyarrow

    return column.cast(column.type.value_type) if pyarrow.types.is_dictionary(column.type) else column


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind))


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _as_number(column: Any) -> Any:
    from pyarrow import float64, types

    return column.cast(float64()) if types.is_decimal(column.type) else column


def _check_numeric(columns: dict[str, Any], where: str) -> None:
    from pyarrow import types

    other = [name for name, column in columns.items() if not (_is_number(column.type) or types.is_null(column.type))]
    if not other:
        return
    column = columns[other[0]]
    what = f"column {quoted(other[:1])} holds {_kind(column.type)}"
    if _is_text(column.type):
        what += _first_word(column)
    if len(other) > 1:
        what += f"; not numbers either: {quoted(other[1:])}"
    numeric = [name for name in columns if name not in other]
    remedy = f"; name those to train on, data.features={_as_override(numeric)}" if numeric else ""
    raise DataError(f"{where}: {what}; expected numbers{remedy}.")


def _as_override(names: Sequence[str], limit: int = 6) -> str:
    return "[" + ",".join(names[:limit]) + (",..." if len(names) > limit else "") + "]"


def _kind(kind: Any) -> str:
    from pyarrow import types

    if _is_text(kind):
        return "text"
    return "text that is not UTF-8" if types.is_binary(kind) or types.is_large_binary(kind) else str(kind)


def _first_word(column: Any) -> str:
    """The first cell that is not a number: often one stray mark in a column of numbers."""
    position = 0
    for chunk in column.chunks:
        for cell in chunk:
            position += 1
            text = cell.as_py()
            try:
                float(text or "nan")
            except ValueError:
                return f" ({quoted([text])} at sample {position})"
    return ""


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


def _type_notes(columns: dict[str, Any]) -> list[str]:
    from pyarrow import compute, types

    booleans = [name for name, column in columns.items() if types.is_boolean(column.type)]
    rounded = []
    for name, column in columns.items():
        if types.is_int64(column.type) or types.is_uint64(column.type):
            low, high = compute.min_max(column).as_py().values()
            if low < -EXACT_INTEGERS or high > EXACT_INTEGERS:
                rounded.append(name)
    notes = []
    if booleans:
        notes.append(f"Read as 0 (false) and 1 (true): {quoted(booleans)}.")
    if rounded:
        notes.append(f"Integers above 2**53 were rounded to float64: {quoted(rounded)}.")
    return notes


def _targets(column: Any, positive: str | None, where: str, name: str) -> tuple[Array, LabelPair]:
    import pyarrow
    from pyarrow import compute

    if not (_is_text(column.type) or _is_number(column.type) or pyarrow.types.is_null(column.type)):
        raise DataError(f"{where}: {name} holds {_kind(column.type)}; expected numbers, booleans or text as labels.")
    column = _as_number(column)
    absent = compute.is_null(column, nan_is_null=True)
    if _is_text(column.type):
        absent = compute.or_kleene(absent, compute.equal(column, ""))
    elif pyarrow.types.is_floating(column.type):
        absent = compute.or_kleene(absent, compute.invert(compute.is_finite(column)))
    count = compute.sum(absent).as_py()
    if count:
        first = compute.index(absent, True).as_py()
        raise DataError(missing_labels(where, name, count, first, len(column)))
    unique = compute.unique(column)
    # 0.0 and -0.0 are one label.
    classes = list(dict.fromkeys(unique.slice(0, 8).to_pylist()))
    count = len(classes) if len(unique) <= 8 else len(unique)
    pair = choose_labels(classes, count, positive, where, name)
    return compute.equal(column, pyarrow.scalar(pair.positive, column.type)).to_numpy().astype(np.float32), pair

"""Read a CSV file with a header line into labelled samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from gradkit.config.arguments import as_argument
from gradkit.errors import DataError
from gradkit.train.data.arrow_table import import_pyarrow, samples_from_table
from gradkit.train.data.columns import normal
from gradkit.train.data.dialect import MARKS, Dialect, dialect_of, in_pages, line_of
from gradkit.train.data.files import checked_file, fingerprint, head, named, quoted, translated
from gradkit.train.data.samples import Samples
from gradkit.train.schema.data import CsvData

RAGGED = re.compile(r"(?:Row #(?P<line>\d+): )?Expected (?P<expected>\d+) columns, got (?P<got>\d+)")
"""What pyarrow says of a row with too few or too many cells."""

TAB = "\t"

FOREIGN_STARTS = {
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"PK\x03\x04": "a zip archive or spreadsheet; save it as CSV",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it first",
    b"PAR1": "a Parquet file; read it with data=parquet",
    b"\x93NUMPY": "a NumPy file; read it with data=npy",
}
"""First bytes of files that are often handed over as CSV."""


def read_csv(config: CsvData) -> Samples:
    """Labelled samples of a CSV file, with or without a byte-order mark, lines ending in LF or CRLF.

    Types are inferred from the whole file. Empty cells, and in number columns also `NA`, `NaN`, `null` and the like,
    are missing. Empty lines are skipped, and before the header `sep=;` and lines of comment.

    Args:
        config: Path, delimiter, encoding, target and features.

    Raises:
        ConfigError: The delimiter is not one character, or there is no such encoding.
        DataError: The file is missing, malformed or cannot be trained on, or pyarrow is not installed.
    """
    where = named(config.path)
    file = checked_file(config.path)
    import_pyarrow(where)
    with translated(where, "CSV"):
        how = dialect_of(file, config)
        _refuse_foreign(head(file), how, where)
        identity, note = fingerprint([file])
    table = _read(file, how, where)
    try:
        names = table.column_names
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: the header is not text in {how.encoding.upper()}; {in_pages(how.encoding)}."
        ) from error
    _check_header(names, normal(config.target), how.delimiter, where)
    return samples_from_table(
        table,
        config,
        where,
        identity,
        [note, *how.notes],
        as_text=lambda names: _read(file, how, where, as_text=names),
        line_of=partial(line_of, file, how),
    )


def _read(file: Path, how: Dialect, where: str, as_text: Sequence[str] = ()) -> Any:
    """The table, or only the columns `as_text`, whose cells stay as they are written."""
    import pyarrow
    from pyarrow import csv

    known = csv.ConvertOptions().null_values

    def parse(threads: bool) -> Any:
        # A file object, because pyarrow would silently unpack a path that ends in .gz.
        with pyarrow.OSFile(str(file)) as stream:
            return csv.read_csv(
                stream,
                read_options=csv.ReadOptions(use_threads=threads, skip_rows=how.skipped, encoding=how.encoding),
                parse_options=csv.ParseOptions(delimiter=how.delimiter, newlines_in_values=True),
                convert_options=csv.ConvertOptions(
                    include_columns=list(as_text),
                    column_types=dict.fromkeys(as_text, pyarrow.string()),
                    decimal_point=how.decimal,
                    null_values=[*known, *MARKS] if how.missing else known,
                ),
            )

    with translated(where, "CSV", pyarrow.ArrowException):
        try:
            return parse(threads=True)
        except UnicodeDecodeError:
            raise DataError(f"{where}: is not text in {how.encoding.upper()}; {in_pages(how.encoding)}.") from None
        except pyarrow.ArrowInvalid as error:
            if not RAGGED.search(str(error)):
                raise
        # Only a reader without threads knows the line. (Its `invalid_row_handler` would tell without parsing a
        # message, but writes to stderr when the row is not UTF-8.)
        try:
            return parse(threads=False)
        except pyarrow.ArrowInvalid as error:
            ragged = RAGGED.search(str(error))
            if ragged is None or ragged["line"] is None:
                raise
        raise DataError(
            f"{where}: line {ragged['line']} has {ragged['got']} {'cell' if ragged['got'] == '1' else 'cells'}, "
            f"expected {ragged['expected']} as in the header (delimiter {how.delimiter!r}; empty lines not counted)."
        )


def _refuse_foreign(start: bytes, how: Dialect, where: str) -> None:
    for magic, what in FOREIGN_STARTS.items():
        if start.startswith(magic):
            raise DataError(f"{where}: is {what}.")
    if "utf-16" in how.encoding.lower() or "utf-32" in how.encoding.lower():
        return
    if b"\0" in start:
        raise DataError(
            f"{where}: holds zero bytes, so it is binary or UTF-16; expected text. If it is text, add"
            " data.encoding=utf-16-le or data.encoding=utf-16-be."
        )
    if not start.strip(b"\xef\xbb\xbf \t\r\n"):
        raise DataError(f"{where}: starts with {len(start)} blank characters; expected a header line.")
    if b"\n" not in start and b"\r" not in start and len(start) < 4096:
        raise DataError(f"{where}: has one line only; expected a header line and one line per sample.")


def _check_header(names: list[str], target: str, delimiter: str, where: str) -> None:
    """Refuse the two headers that mean the whole file was misunderstood."""
    if target in map(normal, names):
        return
    if len(names) == 1:
        for other in ",;\t|":
            if other != delimiter and other in names[0]:
                raise DataError(
                    f"{where}: has one column only, {quoted(names)}; the cells seem to be separated by {other!r}; add "
                    f"{as_argument('data.delimiter', 'tab' if other == TAB else other)} to the command."
                )
    with suppress(ValueError):
        for name in names:
            float(name)
        raise DataError(
            f"{where}: data.target={target!r} is not a column; the first line holds numbers ({quoted(names)}), where "
            "a header line with the names of the columns is needed."
        )

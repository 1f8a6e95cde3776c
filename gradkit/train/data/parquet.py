"""Read a Parquet file into labelled samples."""

from __future__ import annotations

from gradkit.errors import DataError
from gradkit.train.data.arrow_table import import_pyarrow, samples_from_table
from gradkit.train.data.columns import check_unique
from gradkit.train.data.files import checked_file, fingerprint, named, require_memory, translated
from gradkit.train.data.samples import Samples
from gradkit.train.schema import ParquetData


def read_parquet(config: ParquetData) -> Samples:
    """Labelled samples of a Parquet file; only the columns needed are read.

    Args:
        config: Path, target and features.

    Raises:
        DataError: The file is missing, damaged or cannot be trained on, or pyarrow is not installed.
    """
    where = named(config.path)
    file = checked_file(config.path)
    pyarrow = import_pyarrow(where)
    with translated(where, "a Parquet file", pyarrow.ArrowException):
        from pyarrow import parquet

        with parquet.ParquetFile(str(file), page_checksum_verification=True) as source:
            names = list(source.schema_arrow.names)
            check_unique(names, where, "the file")
            wanted = names
            if config.features is not None:
                wanted = [name for name in names if name in (config.target, *config.features)]
            # A few bytes of run lengths can stand for any number of rows.
            require_memory(source.metadata.num_rows * max(1, len(wanted)), where)
            table = source.read(columns=wanted)
        if table.column_names != wanted:
            raise DataError(f"{where}: has columns nested in one another; expected plain columns.")
        identity, note = fingerprint([file])
    if config.target not in names or config.features is not None:
        # The message for a wrong name should offer every column, read or not.
        absent = {name: pyarrow.nulls(table.num_rows) for name in names if name not in wanted}
        for name, column in absent.items():
            table = table.append_column(name, column)
    return samples_from_table(table, config, where, identity, [note] if note else [])

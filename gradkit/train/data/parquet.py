"""Read a Parquet file into labelled samples."""

from __future__ import annotations

from gradkit.errors import DataError
from gradkit.train.data.arrow_table import import_pyarrow, samples_from_table
from gradkit.train.data.columns import choose_columns, normal
from gradkit.train.data.files import checked_file, fingerprint, named, require_memory, translated
from gradkit.train.data.samples import Samples
from gradkit.train.schema.data import ParquetData


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
            names = [str(name) for name in source.schema_arrow.names]
            features = config.features and [normal(name) for name in config.features]
            chosen = choose_columns([normal(name) for name in names], normal(config.target), features, where)
            wanted = [name for name in names if normal(name) in chosen or normal(name) == normal(config.target)]
            # A few bytes of run lengths can stand for any number of rows.
            require_memory(source.metadata.num_rows * len(wanted), where)
            table = source.read(columns=wanted)
        if table.column_names != wanted:
            raise DataError(f"{where}: has columns nested in one another; expected plain columns.")
        identity, note = fingerprint([file])
    return samples_from_table(table, config, where, identity, [note])

"""Load the data source a configuration names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from gradkit.errors import ConfigError
from gradkit.train.command.validate import moved
from gradkit.train.data.bundled import breast_cancer, digits_odd, worked_example
from gradkit.train.data.dataset import Dataset
from gradkit.train.data.delimited import read_csv
from gradkit.train.data.numpy_files import read_numpy
from gradkit.train.data.parquet import read_parquet
from gradkit.train.data.prepare import prepare
from gradkit.train.data.samples import Samples
from gradkit.train.data.synthetic import synthetic
from gradkit.train.schema.data import (
    BreastCancerData,
    CsvData,
    DataConfig,
    DigitsOddData,
    NpyData,
    ParquetData,
    SyntheticData,
    WorkedExampleData,
)


def load_dataset(config: DataConfig, seed: int, base: Path = Path()) -> Dataset:
    """The data set of a configuration, split by seed.

    Args:
        config: A configuration of one of the sources, with every key filled in.
        seed: Seed of the split, 0 to 2**32 - 1.
        base: What relative paths are meant from.

    Raises:
        ConfigError: Keys that contradict one another.
        DataError: A file that cannot be read, or a table that cannot be trained on.
    """
    if isinstance(config, WorkedExampleData):
        return worked_example(config)
    return prepare(_samples(located(config, base)), config, seed)


def located(config: DataConfig, base: Path) -> DataConfig:
    """The configuration with its relative paths from `base` on; unchanged where that is the current folder."""
    if base.absolute() == Path.cwd():
        return config
    paths = [each.name for each in dataclasses.fields(config) if each.metadata.get("path")]
    given: dict[str, Any] = {name: getattr(config, name) for name in paths}
    changed: dict[str, Any] = {name: moved(path, base) for name, path in given.items() if path is not None}
    return dataclasses.replace(config, **changed)


def _samples(config: DataConfig) -> Samples:
    if isinstance(config, BreastCancerData):
        return breast_cancer(config)
    if isinstance(config, DigitsOddData):
        return digits_odd()
    if isinstance(config, SyntheticData):
        return synthetic(config)
    if isinstance(config, CsvData):
        return read_csv(config)
    if isinstance(config, ParquetData):
        return read_parquet(config)
    if isinstance(config, NpyData):
        return read_numpy(config)
    raise ConfigError(f"data.name={config.name!r} is not a data source of gradkit.")

"""Keys of the group `data`."""

from __future__ import annotations

from dataclasses import dataclass

from gradkit.config.fields import MISSING, key


@dataclass
class DataConfig:
    """What every data source shares."""

    name: str = key(MISSING, "data source, set by the group choice")
    validation_fraction: float = key(0.2, "share of the samples held out for validation", above=0, below=1)
    test_fraction: float = key(0.2, "share of the samples held out for the final test", above=0, below=1)
    standardize: bool = key(True, "scale features to mean 0 and standard deviation 1 of the training split")


@dataclass
class BreastCancerData(DataConfig):
    """scikit-learn's breast cancer set: 569 samples, 30 features, target 1 = benign."""

    name: str = key("breast_cancer", "data source", choices=("breast_cancer",))
    features: list[str] | None = key(None, "feature names to use; null takes all 30")


@dataclass
class DigitsOddData(DataConfig):
    """scikit-learn's digits: 1797 images of 8 x 8, target 1 = odd digit."""

    name: str = key("digits_odd", "data source", choices=("digits_odd",))


@dataclass
class SyntheticData(DataConfig):
    """Two Gaussian classes on either side of a random hyperplane."""

    name: str = key("synthetic", "data source", choices=("synthetic",))
    samples: int = key(10_000, "number of samples", low=10, high=10_000_000)
    dimensions: int = key(20, "number of features", low=1, high=100_000)
    noise: float = key(1.0, "standard deviation of the noise added to the logit", low=0)
    label_flips: float = key(0.0, "share of labels flipped at random", low=0, below=0.5)
    positive_share: float = key(0.5, "share of samples with target 1", above=0, below=1)
    seed: int = key("${seed}", "seed of the generator; by default the run's", low=0)


@dataclass
class WorkedExampleData(DataConfig):
    """One sample, used for training and evaluation alike: the worked example x = 6.7, y = 0."""

    name: str = key("worked_example", "data source", choices=("worked_example",))
    standardize: bool = key(False, "must stay false: one sample has no spread")
    x: float = key(6.7, "the feature")
    y: float = key(0.0, "the target", low=0, high=1)


@dataclass
class TableData(DataConfig):
    """What the user's own tables share."""

    path: str = key(MISSING, "the file", path=True)
    target: str = key(MISSING, "name of the target column")
    positive: str | None = key(None, "label that becomes 1; null takes the larger (or later in the alphabet) of two")
    features: list[str] | None = key(None, "columns to train on; null takes all but the target")
    missing: str | None = key(
        None,
        "what to do about missing cells: leave out their rows, or fill them by the training split; null refuses them",
        choices=("drop", "mean", "median"),
    )
    text: str | None = key(
        None,
        "what to do about columns of text: one column for each category of the training split, or none; null refuses",
        choices=("onehot", "drop"),
    )
    dates: str | None = key(
        None,
        "what to do about columns of dates and times: days since 1970, or leave them out; null refuses",
        choices=("ordinal", "drop"),
    )


@dataclass
class CsvData(TableData):
    """A CSV file with a header line."""

    name: str = key("csv", "data source", choices=("csv",))
    delimiter: str = key(",", "one character between two cells, or tab")
    decimal: str = key(".", "the point of decimal numbers, written data.decimal=','", choices=(".", ","))
    encoding: str | None = key(None, "such as cp1252; null takes UTF-8, or UTF-16 where the file begins by its mark")


def delimiter_character(delimiter: str) -> str | None:
    r"""The character that `data.delimiter` stands for, or None if it cannot separate cells.

    Example:
        >>> delimiter_character("tab"), delimiter_character("\\t"), delimiter_character(";;")
        ('\t', '\t', None)
    """
    character = "\t" if delimiter in ("\\t", "tab") else delimiter
    return character if len(character) == 1 and character.isascii() and character not in '"\r\n\0' else None


@dataclass
class ParquetData(TableData):
    """A Parquet file."""

    name: str = key("parquet", "data source", choices=("parquet",))


@dataclass
class NpyData(DataConfig):
    """NumPy files: features in an .npy with the targets in another, or both in one .npz."""

    name: str = key("npy", "data source", choices=("npy",))
    path: str = key(MISSING, "an .npy file of shape (samples, features), or an .npz", path=True)
    targets: str | None = key(None, "an .npy file of shape (samples,), needed when `path` is an .npy", path=True)
    features_key: str = key("X", "name of the feature array in an .npz")
    targets_key: str = key("y", "name of the target array in an .npz")
    positive: str | None = key(None, "label that becomes 1; null takes the larger of two")


DATA_SOURCES: dict[str, type] = {
    "breast_cancer": BreastCancerData,
    "digits_odd": DigitsOddData,
    "synthetic": SyntheticData,
    "worked_example": WorkedExampleData,
    "csv": CsvData,
    "parquet": ParquetData,
    "npy": NpyData,
}

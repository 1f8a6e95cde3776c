"""Parquet files, well-formed and malformed."""

import decimal

import numpy as np
import pytest

from gradkit.errors import DataError
from gradkit.train.data import load_dataset
from gradkit.train.schema.data import ParquetData

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COLUMNS = {"a": [row * 0.5 for row in range(40)], "b": [row * 7 % 5 for row in range(40)], "y": [0, 1] * 20}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write columns as Parquet and load them."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(columns=COLUMNS, **options):
        table = columns if isinstance(columns, pyarrow.Table) else pyarrow.table(columns)
        parquet.write_table(table, "x.parquet")
        return load_dataset(ParquetData(**{"path": "x.parquet", "target": "y", **options}), 0)

    return write_and_load


def refused(load, message, *arguments, **options):
    with pytest.raises(DataError) as caught:
        load(*arguments, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_is_read(load):
    dataset = load()
    assert dataset.feature_names == ("a", "b")
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [24, 8, 8]
    assert dataset.notes == ()


@pytest.mark.parametrize(
    "column",
    [
        pyarrow.array(COLUMNS["b"], pyarrow.int8()),
        pyarrow.array(COLUMNS["b"], pyarrow.uint64()),
        pyarrow.array(np.array(COLUMNS["b"], np.float16)),
        pyarrow.array(COLUMNS["b"], pyarrow.float32()),
        pyarrow.array([decimal.Decimal(number) for number in COLUMNS["b"]], pyarrow.decimal128(10, 2)),
        pyarrow.array(COLUMNS["b"]).dictionary_encode(),
        pyarrow.array([number > 2 for number in COLUMNS["b"]]),
    ],
)
def test_any_kind_of_number_is_a_feature(load, column):
    assert load({**COLUMNS, "b": column}).feature_names == ("a", "b")


@pytest.mark.parametrize(
    ("labels", "mapping"),
    [
        (pyarrow.array(["u", "v"] * 20).dictionary_encode(), {"u": 0, "v": 1}),
        (pyarrow.array(["u", "v"] * 20, pyarrow.large_string()), {"u": 0, "v": 1}),
        (pyarrow.array([False, True] * 20), {"false": 0, "true": 1}),
        (pyarrow.array([1, 2] * 20, pyarrow.uint8()), {"1": 0, "2": 1}),
        (pyarrow.array([decimal.Decimal(1), decimal.Decimal(2)] * 20), {"1": 0, "2": 1}),
        (pyarrow.array([0.0, 1.0, -0.0, 1.0] * 10), {"0": 0, "1": 1}),
        (pyarrow.array(np.array([0, 1] * 20, np.float16)), {"0": 0, "1": 1}),
        (pyarrow.array(["u", "v"] * 20, pyarrow.string_view()), {"u": 0, "v": 1}),
        (pyarrow.array([b"n", b"y"] * 20), {"n": 0, "y": 1}),
        (pyarrow.array([b"n", b"y"] * 20, pyarrow.large_binary()), {"n": 0, "y": 1}),
        (pyarrow.array([b"n", b"y"] * 20, pyarrow.binary_view()), {"n": 0, "y": 1}),
        (pyarrow.array([decimal.Decimal(number) for number in ("0.1", "0.2")] * 20), {"0.1": 0, "0.2": 1}),
        (
            pyarrow.array([decimal.Decimal(10**30), decimal.Decimal(10**30 + 1)] * 20, pyarrow.decimal128(38, 0)),
            {str(10**30): 0, str(10**30 + 1): 1},
        ),
        (
            pyarrow.array([decimal.Decimal(f"0.{'1' * 20}{last}") for last in (1, 2)] * 20),
            {f"0.{'1' * 20}1": 0, f"0.{'1' * 20}2": 1},
        ),
    ],
)
def test_any_kind_of_two_labels_is_a_target(load, labels, mapping):
    dataset = load({**COLUMNS, "y": labels})
    assert dataset.label_mapping == mapping
    assert float(dataset.train.targets.sum()) == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": [None, *COLUMNS["a"][1:]]}, "column 'a' has 1 missing cell, the first at sample 1 of 40"),
        ({"a": [float("nan"), *COLUMNS["a"][1:]]}, "NaN or infinite, the first in column 'a' at sample 1 of 40"),
        ({"a": [None] * 40}, "column 'a' has 40 missing cells"),
        ({"a": ["x"] * 40}, "column 'a' holds text ('x' at sample 1)"),
        ({"a": [[1]] * 40}, "column 'a' holds list<"),
        ({"a": [{"u": 1}] * 40}, "column 'a' holds struct<"),
        ({"a": [b"x"] * 40}, "column 'a' holds text ('x' at sample 1)"),
        ({"a": [b"\xff"] * 40}, "column 'a' holds bytes that are not UTF-8 text"),
        ({"y": [b"\xff", b"x"] * 20}, "column 'y' holds bytes that are not UTF-8 text"),
        ({"y": pyarrow.array([[1], [2]] * 20, pyarrow.list_(pyarrow.int8(), 1))}, "column 'y' holds fixed_size_list<"),
        ({"y": [None, *COLUMNS["y"][1:]]}, "column 'y' has 1 missing or non-finite label, the first at sample 1 of 40"),
        ({"y": [None] * 40}, "column 'y' has 40 missing or non-finite labels"),
        ({"y": [float("inf"), *COLUMNS["a"][1:]]}, "column 'y' has 1 missing or non-finite label"),
        ({"y": [1] * 40}, "one class only (1)"),
        ({"y": ["u", "v", "w", "v"] * 10}, "holds 3 classes"),
        ({"y": COLUMNS["a"]}, "like the target of a regression"),
        ({"y": [[1]] * 40}, "column 'y' holds list<"),
        ({name: [] for name in COLUMNS}, "but no rows"),
    ],
)
def test_a_table_that_cannot_be_trained_on_is_refused(load, changes, message):
    refused(load, message, {**COLUMNS, **changes})


def test_names_are_checked_before_anything_is_read(load):
    refused(load, "data.target='z' is not a column. The columns are 'a', 'b', 'y'.", target="z")
    refused(load, "'c' in data.features is not a column", features=["c"])
    twice = pyarrow.table([[1, 2], [1, 2], [0, 1]], names=["a", "a", "y"])
    refused(load, "more than one column 'a'", twice)


def test_only_chosen_columns_matter(load):
    assert load({**COLUMNS, "a": ["x"] * 40}, features=["b"]).feature_names == ("b",)


def test_the_index_written_by_pandas_is_left_out_with_a_note(load):
    dataset = load({**COLUMNS, "__index_level_0__": list(range(40))})
    assert dataset.feature_names == ("a", "b")
    assert dataset.notes == ("Left out, as it numbers the rows: '__index_level_0__'.",)


def test_a_table_larger_than_the_memory_is_refused_before_it_is_read(load, monkeypatch):
    monkeypatch.setattr("gradkit.train.data.files.total_memory", lambda: 100)
    refused(load, "GiB of memory")


def test_every_truncation_and_many_damages_are_refused_or_harmless(load, tmp_path):
    load()
    good = (tmp_path / "x.parquet").read_bytes()
    random = np.random.default_rng(0)
    config = ParquetData(path=str(tmp_path / "bad.parquet"), target="y")
    for size in range(1, len(good), 37):
        (tmp_path / "bad.parquet").write_bytes(good[:size])
        with pytest.raises(DataError):
            load_dataset(config, 0)
    for _ in range(150):
        damaged = bytearray(good)
        for place in random.integers(0, len(good), 3):
            damaged[place] = random.integers(256)
        (tmp_path / "bad.parquet").write_bytes(damaged)
        try:
            load_dataset(config, 0)
        except DataError as error:
            assert "\n" not in str(error)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("a,y\n1,0\n")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        load_dataset(ParquetData(path=str(path), target="y"), 0)


@pytest.mark.parametrize(
    ("numbers", "kind", "notes"),
    [
        ([10**15 - 1 - row for row in range(40)], (38, 2), ()),
        (
            [10**17 + row for row in range(40)],
            (38, 2),
            ("Decimals of more than 15 digits were rounded to float64: 'a'.",),
        ),
        (
            [-(10**30) - row * 10**29 for row in range(40)],
            (70, 0),
            ("Integers above 2**53 were rounded to float64: 'a'.",),
        ),
    ],
)
def test_decimals_that_float64_cannot_hold_are_noted(load, numbers, kind, notes):
    scaled = [decimal.Decimal(number).scaleb(-kind[1]) for number in numbers]
    assert load({**COLUMNS, "a": pyarrow.array(scaled, pyarrow.decimal256(*kind))}).notes == notes


def test_an_index_of_pandas_that_does_not_count_is_left_out_as_an_index(load):
    for index in (COLUMNS["b"], ["x"] * 40):
        dataset = load({**COLUMNS, "__index_level_0__": index})
        assert dataset.notes == ("Left out, as it is an index written by pandas: '__index_level_0__'.",)
        assert dataset.feature_names == ("a", "b")


def test_what_pyarrow_cannot_do_is_one_line(load, monkeypatch):
    def refuse(*_):
        raise pyarrow.ArrowNotImplementedError("Function 'unique' has no kernel\nfor these types")

    monkeypatch.setattr("pyarrow.compute.unique", refuse)
    refused(load, "data.path='x.parquet': cannot be used: Function 'unique' has no kernel for these types.")

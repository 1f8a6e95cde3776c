"""Generated tables of every kind of cell: a data set or one clear line, never anything else."""

import io
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradkit.errors import ConfigError, DataError
from gradkit.train.data import Dataset, load_dataset
from gradkit.train.schema.data import CsvData, NpyData, ParquetData

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

SETTINGS = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

numbers = st.one_of(st.integers(-5, 5), st.integers(-(2**70), 2**70), st.floats(width=64), st.floats(-10, 10)).map(str)
cells = st.one_of(
    numbers, numbers, st.sampled_from(["", "NA", "true", "2020-01-01", "x", '"', "'", "\t", " 1", "1_000"])
)
names = st.sampled_from(["a", "b", "c", "", "y", "Y", "1", "é", "a b", '"', "__index_level_0__"])
targets = st.sampled_from(
    [("0", "1"), ("1", "2"), ("-1", "1"), ("no", "yes"), ("true", "false"), ("0.0", "1.0"), ("", "1")]
)


def check(config, seed=0):
    """Load; whatever comes back must be whole, whatever is refused must be one line."""
    try:
        dataset = load_dataset(config, seed)
    except (DataError, ConfigError) as error:
        assert str(error).startswith("data.")
        assert "\n" not in str(error) and len(str(error)) < 600
        return None
    assert isinstance(dataset, Dataset)
    assert sorted(dataset.label_mapping.values()) == [0, 1]
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.features.isfinite().all()
        assert set(split.targets.tolist()) == {0, 1}
        assert split.features.shape == (len(split.targets), len(dataset.feature_names))
    return dataset


@st.composite
def csv_texts(draw):
    """Tables that are mostly right, with any number of things wrong."""
    header = draw(st.lists(names, min_size=1, max_size=4, unique=draw(st.booleans())))
    if draw(st.integers(0, 4)):
        header = [name for name in header if name != "y"] + ["y"]
    kind = draw(st.sampled_from([numbers, cells, st.integers(-100, 100).map(str)]))
    pair = draw(targets)
    lines = [header]
    for row in range(draw(st.one_of(st.integers(0, 30), st.integers(10, 30)))):
        line = [draw(kind) for _ in header[:-1]]
        lines.append([*line, pair[row % 2] if draw(st.integers(0, 200)) else draw(cells)])
    if len(lines) > 1 and not draw(st.integers(0, 5)):
        place = draw(st.integers(1, len(lines) - 1))
        lines[place] = lines[place] * 2 if draw(st.booleans()) else lines[place][1:]
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return end.join(",".join(line) for line in lines) + draw(st.sampled_from(["", end, end + end]))


@SETTINGS
@given(text=csv_texts(), encoding=st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
def test_any_csv_is_a_data_set_or_one_line(tmp_path, text, encoding):
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode(encoding))
    check(CsvData(path=str(path), target="y"))


@settings(SETTINGS, max_examples=200)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_or_read_as_any_kind_of_file(tmp_path, data):
    path = tmp_path / "x"
    for start in (b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"PAR1"):
        path.write_bytes(start + data)
        for config in (
            CsvData(path=str(path), target="y"),
            ParquetData(path=str(path), target="y"),
            NpyData(path=str(path)),
            NpyData(path=str(path), targets=str(path)),
        ):
            check(config)


ARROW_VALUES = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "small": st.integers(-3, 3),
    "double": st.floats(),
    "calm": st.floats(-1e3, 1e3),
    "bool": st.booleans(),
    "text": st.text(max_size=3),
    "bytes": st.binary(max_size=3),
    "list": st.lists(st.integers(0, 3), max_size=2),
}


@st.composite
def arrow_tables(draw):
    rows = draw(st.integers(0, 30))
    columns = {}
    for name in draw(st.lists(st.sampled_from(["a", "b", "c.d", "__index_level_0__"]), max_size=3, unique=True)):
        value = ARROW_VALUES[draw(st.sampled_from([*ARROW_VALUES, "small", "calm", "calm"]))]
        if not draw(st.integers(0, 5)):
            value = st.one_of(st.none(), value)
        columns[name] = draw(st.lists(value, min_size=rows, max_size=rows))
    first, second = draw(
        st.sampled_from([(0, 1), (1, 2), (False, True), ("u", "v"), (-0.0, 0.5), (None, 1), (b"a", b"b")])
    )
    columns["y"] = [second if row % 2 else first for row in range(rows)]
    return pyarrow.table(columns)


@SETTINGS
@given(table=arrow_tables())
def test_any_parquet_is_a_data_set_or_one_line(tmp_path, table):
    path = tmp_path / "x.parquet"
    parquet.write_table(table, path)
    check(ParquetData(path=str(path), target="y"))


@SETTINGS
@given(
    x=hnp.arrays(
        st.one_of(hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.complex_number_dtypes()),
        st.one_of(
            st.tuples(st.integers(10, 40), st.integers(1, 4)),
            st.tuples(st.integers(10, 40), st.integers(1, 4)),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20),
        ),
    ),
    pair=st.sampled_from([(0, 1), (1, 2), (False, True), ("u", "v"), (0.0, math.nan), (3, 3)]),
    extra=st.integers(-1, 1).filter(lambda number: number >= 0),
    standardize=st.booleans(),
)
def test_any_arrays_are_a_data_set_or_one_line(tmp_path, x, pair, extra, standardize):
    count = (x.shape[0] if x.ndim else 1) + extra
    y = np.array([pair[row % 2] for row in range(count)])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "x.npz", X=x, y=y)
    one = check(NpyData(path=str(tmp_path / "x.npy"), targets=str(tmp_path / "y.npy"), standardize=standardize))
    two = check(NpyData(path=str(tmp_path / "x.npz"), standardize=standardize))
    assert (one is None) == (two is None)


def test_the_generated_tables_are_not_all_refused(tmp_path):
    """Otherwise the tests above would prove little."""
    buffer = io.StringIO()
    buffer.write("a,y\n")
    for row in range(20):
        buffer.write(f"{row},{row % 2}\n")
    (tmp_path / "x.csv").write_text(buffer.getvalue())
    assert check(CsvData(path=str(tmp_path / "x.csv"), target="y")) is not None

"""NPY and NPZ files, well-formed and malformed."""

import pickle
import zipfile

import numpy as np
import pytest
import torch

from gradkit.errors import DataError
from gradkit.train.data import load_dataset
from gradkit.train.data.numpy_files import read_numpy
from gradkit.train.schema.data import NpyData

X = np.random.default_rng(0).standard_normal((40, 3))
Y = np.tile([0, 1], 20)


class Explosive:
    """Would write a file if it were ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Write a pair of .npy files and load them."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(x=X, y=Y, **options):
        np.save("x.npy", x)
        np.save("y.npy", y)
        return load_dataset(NpyData(**{"path": "x.npy", "targets": "y.npy", **options}), 0)

    return write_and_load


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Write an .npz file and load it."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(arrays=None, **options):
        np.savez("x.npz", **({"X": X, "y": Y} if arrays is None else arrays))
        return load_dataset(NpyData(**{"path": "x.npz", **options}), 0)

    return write_and_load


def refused(load, message, *arguments, **options):
    with pytest.raises(DataError) as caught:
        load(*arguments, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_both_forms_give_the_same_data(pair, archive):
    a, b = pair(), archive()
    assert a.feature_names == ("x0", "x1", "x2")
    assert torch.equal(a.train.features, b.train.features)
    assert torch.equal(a.test.targets, b.test.targets)


def test_an_npy_is_memory_mapped_and_not_loaded(pair, tmp_path):
    pair()
    samples = read_numpy(NpyData(path="x.npy", targets="y.npy"))
    assert isinstance(samples.features.array, np.memmap)
    assert not samples.features.array.flags.writeable


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f8", "int8", "uint64", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_real_dtype_and_memory_order_is_read(pair, dtype, order):
    values = np.asarray((X * 10).clip(0, 20).astype(dtype), order=order)
    dataset = pair(values, standardize=False)
    expected = torch.from_numpy(np.sort(values[:, 0].astype(np.float32)))
    parts = (dataset.train, dataset.validation, dataset.test)
    assert torch.equal(torch.cat([part.features[:, 0] for part in parts]).sort().values, expected)


@pytest.mark.parametrize(
    ("targets", "mapping"),
    [
        (Y + 1, {"1": 0, "2": 1}),
        (Y * 2 - 1, {"-1": 0, "1": 1}),
        (Y == 1, {"false": 0, "true": 1}),
        (Y.astype(np.float32), {"0": 0, "1": 1}),
        (np.where(Y, "yes", "no"), {"no": 0, "yes": 1}),
        (np.where(Y, b"yes", b"no"), {"no": 0, "yes": 1}),
        (Y[:, None], {"0": 0, "1": 1}),
    ],
)
def test_labels_are_mapped_and_conversions_noted(pair, targets, mapping):
    dataset = pair(y=targets)
    assert dataset.label_mapping == mapping
    assert len(dataset.notes) == 1


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="longdouble is float64 here")
def test_long_doubles_are_labels_without_their_type(pair):
    dataset = pair(y=Y.astype(np.longdouble))
    assert dataset.notes == ("Labels of the array: 0.0 became 0 and 1.0 became 1.",)
    assert dataset.label_mapping == {"0": 0, "1": 1}
    near = np.where(Y, np.nextafter(np.longdouble(1), np.longdouble(2)), np.longdouble(1))
    mapping = pair(y=near).label_mapping
    assert len(mapping) == 2 and all(label.startswith("1.0") for label in mapping)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="longdouble is float64 here")
def test_long_doubles_beyond_float64_are_refused_without_a_warning(pair):
    refused(pair, "cannot be scaled in float64", X.astype(np.longdouble) * np.longdouble("1e400"), Y)


def test_integers_above_float64_precision_are_noted(pair):
    dataset = pair(np.tile([[2**60], [3]], (20, 1)))
    assert "Integers above 2**53 were rounded to float64." in dataset.notes
    assert pair(np.tile([[2**50], [3]], (20, 1))).notes == ()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, 0], Y, "have shape (40,); expected (samples, features) (one feature is a column: reshape(-1, 1))"),
        (X[None], Y, "have shape (1, 40, 3); expected (samples, features)"),
        (X[:0], Y[:0], "have shape (0, 3)"),
        (X[:, :0], Y, "have shape (40, 0)"),
        (X + 1j, Y, "have dtype complex128; expected real numbers"),
        (X.astype("U"), Y, "expected real numbers"),
        (X.astype("M8[s]"), Y, "expected real numbers"),
        (np.zeros(40, dtype=[("a", "f8")]), Y, "expected real numbers"),
        (X, Y[:39], "has 39 targets for 40 samples"),
        (X, np.stack([Y, Y], 1), "expected targets of shape (samples,)"),
        (X, np.array(1), "expected targets of shape (samples,)"),
        (X, Y + 1j, "has dtype complex128"),
        (X, np.zeros(40), "one class only (0.0)"),
        (X, np.arange(40) % 3, "holds 3 classes"),
        (X, X[:, 0], "like the target of a regression"),
        (X, np.where(Y, np.nan, 1), "20 missing or non-finite labels, the first at sample 2 of 40"),
        (np.where(X[7, 2] == X, np.nan, X), Y, "1 number is NaN or infinite, the first in column 'x2' at sample 8"),
        (np.where(X[7, 2] == X, -np.inf, X), Y, "1 number is NaN or infinite, the first in column 'x2' at sample 8"),
    ],
)
def test_arrays_that_cannot_be_trained_on_are_refused(pair, archive, x, y, message):
    refused(pair, message, x, y)
    refused(archive, message, {"X": x, "y": y})


def test_pickled_objects_are_never_loaded(pair, archive, tmp_path):
    trap = tmp_path / "exploded"
    hostile = np.array([Explosive(str(trap))] * 40, dtype=object)
    refused(pair, "holds pickled Python objects", hostile, Y)
    refused(pair, "holds pickled Python objects", X, hostile)
    refused(archive, "holds pickled Python objects", {"X": hostile, "y": Y})
    (tmp_path / "x.npy").write_bytes(pickle.dumps(Explosive(str(trap))))
    with pytest.raises(DataError, match="looks like a pickle"):
        load_dataset(NpyData(path="x.npy", targets="y.npy"), 0)
    assert not trap.exists()


def test_keys_of_an_archive_are_chosen_by_name(archive):
    arrays = {"data": X, "label": Y}
    assert archive(arrays, features_key="data", targets_key="label").feature_names == ("x0", "x1", "x2")
    refused(archive, "data.features_key='X' is not an array in it. It holds 'data', 'label'.", arrays)
    refused(archive, "Did you mean 'label'?", arrays, features_key="data", targets_key="labels")
    refused(archive, "It holds nothing", {})


def test_the_two_forms_are_not_mixed_up(pair, archive):
    refused(archive, "does not go with it", targets="y.npy")
    pair()
    refused(load_dataset, "data.targets must name a second .npy", NpyData(path="x.npy"), 0)
    refused(load_dataset, "is an .npz; expected an .npy", NpyData(path="x.npy", targets="x.npz"), 0)
    refused(load_dataset, "data.targets='z.npy': no such file", NpyData(path="x.npy", targets="z.npy"), 0)


def test_an_archive_larger_than_the_memory_is_refused_before_it_is_unpacked(archive, monkeypatch):
    monkeypatch.setattr("gradkit.train.data.files.total_memory", lambda: 1000)
    monkeypatch.setattr("numpy.lib.format.read_array", lambda *_, **__: pytest.fail("was read"))
    refused(archive, "GiB of memory")


def test_a_header_that_claims_more_than_the_memory_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as target:
        for name, shape in (("X", (2**60, 3)), ("y", (2**60,))):
            with target.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    refused(load_dataset, "GiB of memory", NpyData(path=str(path)), 0)


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_every_truncation_and_many_damages_are_refused_or_harmless(pair, archive, tmp_path, form):
    if form == "npy":
        pair()
        good, config = (tmp_path / "x.npy").read_bytes(), NpyData(path="bad", targets="y.npy")
    else:
        archive()
        good, config = (tmp_path / "x.npz").read_bytes(), NpyData(path="bad")
    random = np.random.default_rng(0)
    for size in [*range(1, 140), *range(140, len(good), 97)]:
        (tmp_path / "bad").write_bytes(good[:size])
        with pytest.raises(DataError):
            load_dataset(config, 0)
    for _ in range(400):
        damaged = bytearray(good)
        for place in random.integers(0, 400, 2):
            damaged[place] = random.integers(256)
        (tmp_path / "bad").write_bytes(damaged)
        try:
            load_dataset(config, 0)
        except DataError as error:
            assert "\n" not in str(error)


def test_an_encrypted_archive_is_refused(archive, tmp_path):
    archive()
    data = bytearray((tmp_path / "x.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "x.npz") as source:
        for info in source.infolist():
            data[info.header_offset + 6] |= 1
    start = 0
    while (start := data.find(b"PK\x01\x02", start)) >= 0:
        data[start + 8] |= 1
        start += 4
    (tmp_path / "x.npz").write_bytes(data)
    refused(load_dataset, "cannot be read as an .npz file", NpyData(path="x.npz"), 0)

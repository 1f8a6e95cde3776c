"""Two labels of any kind become 0 and 1."""

import numpy as np
import pytest

from gradkit.errors import DataError
from gradkit.train.data.labels import map_array


def mapped(values, positive=None):
    return map_array(np.asarray(values), positive, "data.path='x'", "column 'y'")


@pytest.mark.parametrize(
    ("values", "mapping", "note"),
    [
        ([0, 1, 0], {"0": 0, "1": 1}, None),
        ([1, 2, 1], {"1": 0, "2": 1}, "Labels of column 'y': 1 became 0 and 2 became 1."),
        ([-1, 1, -1], {"-1": 0, "1": 1}, "Labels of column 'y': -1 became 0 and 1 became 1."),
        ([0.0, 1.0, 0.0], {"0": 0, "1": 1}, "Labels of column 'y': 0.0 became 0 and 1.0 became 1."),
        ([False, True, False], {"false": 0, "true": 1}, "Labels of column 'y': false became 0 and true became 1."),
        (["no", "yes", "no"], {"no": 0, "yes": 1}, "Labels of column 'y': 'no' became 0 and 'yes' became 1."),
        ([b"a", b"b", b"a"], {"a": 0, "b": 1}, "Labels of column 'y': 'a' became 0 and 'b' became 1."),
        (np.array([0, 2**64 - 1, 0], dtype=np.uint64), {"0": 0, str(2**64 - 1): 1}, None),
    ],
)
def test_the_larger_label_becomes_one_and_the_note_says_so(values, mapping, note):
    targets, pair = mapped(values)
    assert targets.dtype == np.float32
    assert targets.tolist() == [0, 1, 0]
    assert pair.mapping == mapping
    if note or mapping == {"0": 0, "1": 1}:
        assert pair.note == note


@pytest.mark.parametrize(
    ("values", "positive"),
    [([1, 2], "1"), ([1.0, 2.0], "1"), ([0.5, 2.0], "0.5"), ([False, True], "False"), (["a", "b"], "a"), ([0, 1], "0")],
)
def test_positive_names_the_label_that_becomes_one(values, positive):
    targets, pair = mapped(values, positive)
    assert targets.tolist() == [1, 0]
    assert pair.note is not None


def test_an_unknown_positive_label_gets_the_nearest():
    with pytest.raises(DataError, match=r"data\.positive='benignn' is not a label.*Did you mean 'benign'\?"):
        mapped(["benign", "malignant"], "benignn")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 1], r"holds one class only \(1\)"),
        ([0, 1, 2], r"holds 3 classes \(such as 0, 1, 2\)"),
        (["a", "b", "c"], r"holds 3 classes \(such as 'a', 'b', 'c'\)"),
        ([0.5, 1.5, 2.5], "like the target of a regression"),
        (list(range(30)), "like the target of a regression"),
        ([0, float("nan")], "1 missing or non-finite label, the first at sample 2 of 2"),
        ([0, float("inf")], "1 missing or non-finite label, the first at sample 2 of 2"),
        (["a", ""], "1 missing or non-finite label, the first at sample 2 of 2"),
    ],
)
def test_anything_but_two_labels_is_refused(values, message):
    with pytest.raises(DataError, match=message):
        mapped(values)

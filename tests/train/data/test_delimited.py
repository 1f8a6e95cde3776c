"""CSV files, well-formed and malformed."""

import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from gradkit.errors import ConfigError, DataError
from gradkit.train.data import load_dataset
from gradkit.train.schema.data import CsvData

ROWS = [(row * 0.5, row * 7 % 5, row % 2) for row in range(40)]
GOOD = "a,b,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in ROWS)


def labelled(first, second):
    return "a,b,y\n" + "".join(f"{a},{b},{second if y else first}\n" for a, b, y in ROWS)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write a table and load it; the path is relative, so messages are the same everywhere."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(written, /, **options):
        (tmp_path / "x.csv").write_bytes(written if isinstance(written, bytes) else written.encode())
        return load_dataset(CsvData(**{"path": "x.csv", "target": "y", **options}), 0)

    return write_and_load


def refused(load, message, written, /, error=DataError, **options):
    with pytest.raises(error) as caught:
        load(written, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_table_is_read_split_and_scaled(load):
    dataset = load(GOOD)
    assert dataset.feature_names == ("a", "b")
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [24, 8, 8]
    assert dataset.notes == ()
    raw = load(GOOD, standardize=False)
    together = torch.cat([raw.train.features, raw.validation.features, raw.test.features])
    targets = torch.cat([raw.train.targets, raw.validation.targets, raw.test.targets])
    found = sorted((*map(float, features), float(target)) for features, target in zip(together, targets, strict=True))
    assert found == sorted((float(a), float(b), float(y)) for a, b, y in ROWS)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        "\n\n" + GOOD.replace("\n", "\n\n"),
        GOOD + "\n\n",
        GOOD.rstrip(),
        GOOD.replace("a,b,y", '"a","b","y"'),
    ],
)
def test_byte_order_mark_line_ends_and_empty_lines_change_nothing(load, text):
    expected = load(GOOD)
    found = load(text)
    assert torch.equal(found.train.features, expected.train.features)
    assert torch.equal(found.test.targets, expected.test.targets)
    assert found.feature_names == expected.feature_names


@pytest.mark.parametrize(
    ("delimiter", "character"), [(";", ";"), ("\t", "\t"), ("\\t", "\t"), ("tab", "\t"), ("|", "|")]
)
def test_other_delimiters(load, delimiter, character):
    assert load(GOOD.replace(",", character), delimiter=delimiter).feature_names == ("a", "b")


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "\n", "é"])
def test_a_delimiter_that_is_not_one_character_is_refused(load, delimiter):
    refused(load, "expected one ASCII character", GOOD, ConfigError, delimiter=delimiter)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty (0 bytes)"),
        ("a,b,y\n", "has 3 columns ('a', 'b', 'y') but no rows"),
        ("a,b,y", "has one line only"),
        ("\n \r\n", "blank characters"),
        (GOOD.replace("1.5,1,1\n", "1.5,1\n"), "line 5 has 2 cells, expected 3"),
        (GOOD.replace("1.5,1,1\n", "1.5,1,1,9\n"), "line 5 has 4 cells, expected 3"),
        (GOOD.replace("\n1.5,1", "\n,1"), "column 'a' has 1 missing cell, the first at sample 4 of 40, line 5"),
        (GOOD.replace("\n1.5,1", "\nnan,1"), "column 'a' has 1 missing cell, the first at sample 4 of 40"),
        (GOOD.replace("\n1.5,1", "\ninf,1"), "1 number is NaN or infinite, the first in column 'a' at sample 4 of 40"),
        (GOOD.replace(",1\n", ",\n"), "column 'y' has 20 missing or non-finite labels, the first at sample 2 of 40"),
        (
            GOOD.replace("\n1.5,1", "\n?,1"),
            "column 'a' holds text ('?' at sample 4, line 5); expected numbers; if '?' marks a missing cell, add",
        ),
        (GOOD.replace(",1\n", ",0\n"), "column 'y' holds one class only (0)"),
        (labelled("", "x"), "column 'y' has 20 missing or non-finite labels"),
        (GOOD.replace("a,b,y", "a,a,y"), "the header has more than one column 'a'"),
        (GOOD.replace("a,b,y", "y,b,y"), "the header has more than one column 'y'"),
        (GOOD.replace("a,b,y\n", ""), "the first line holds numbers ('0.0', '0', '0')"),
        (GOOD.replace(",", ";"), "separated by ';'; add \"data.delimiter=';'\" to the command"),
        (GOOD.replace(",", "\t"), "separated by '\\t'; add data.delimiter=tab to the command"),
        (GOOD.replace("\n1.5,1", "\n1_5,1"), "column 'a' holds text ('1_5' at sample 4, line 5)"),
        (GOOD.rstrip().removesuffix("19.5,3,1") + '"19.5,3,1\n', "line 41 has 1 cell, expected 3"),
        ("y,a\n" + "0,1\n1,2\n" * 20 + '0,"39\n', "column 'a' holds text ('39\\n' at sample 41, line 42)"),
        ("y\n" + "0\n1\n" * 20, "has no column but the target 'y'"),
        ("a,y\n1,0\n2,1\n3,0\n", "too few to appear in training, validation and test"),
        (GOOD.encode("utf-16")[:-1] + b"\xd8", "is not text in UTF-16"),
        (GOOD.encode("utf-16-be"), "holds zero bytes"),
        (b"\x1f\x8b\x08" + GOOD.encode(), "is compressed by gzip; unpack it first"),
        (b"PAR1" + GOOD.encode(), "is a Parquet file; read it with data=parquet"),
        (b"a,y\n" + b"\xe9,0\n\xe8,1\n" * 9, "column 'a' holds bytes that are not UTF-8 text"),
        (labelled(2**53, 1.5).replace("a,", "a\n,"), "line 2 has 3 cells, expected 1"),
    ],
)
def test_a_malformed_table_is_refused_in_one_line(load, text, message):
    refused(load, message, text)


def test_the_line_of_a_ragged_row_is_found_in_a_large_file(load):
    lines = GOOD.splitlines()
    text = "\n".join([lines[0], *lines[1:] * 5000])
    cut = text.splitlines()
    cut[150_000] = "1,2"
    refused(load, "line 150001 has 2 cells, expected 3", "\n".join(cut))


def test_types_are_inferred_from_the_whole_file(load):
    text = "a,y\n" + "1,0\n1,1\n" * 200_000 + "2.5,0\n"
    assert float(load(text, standardize=False).train.features.sum()) > 0
    refused(load, "column 'a' holds text ('x' at sample 400001, line 400002)", text.replace("2.5", "x"))


def test_quoted_cells_may_hold_delimiters_and_line_ends(load):
    text = "a,y\n" + '1,"no, ""not""\nyet"\n2,yes\n' * 20
    assert load(text).label_mapping == {'no, "not"\nyet': 0, "yes": 1}


@pytest.mark.parametrize(
    ("first", "second", "mapping"),
    [
        (1, 2, {"1": 0, "2": 1}),
        (-1, 1, {"-1": 0, "1": 1}),
        ("malignant", "benign", {"benign": 0, "malignant": 1}),
        ("true", "false", {"false": 0, "true": 1}),
        ("0.0", "1.0", {"0": 0, "1": 1}),
    ],
)
def test_labels_are_converted_and_the_note_says_so(load, first, second, mapping):
    dataset = load(labelled(first, second))
    assert dataset.label_mapping == mapping
    assert len(dataset.notes) == 1
    assert "became 0 and" in dataset.notes[0]
    assert float(dataset.train.targets.sum()) == 12


def test_positive_chooses_the_label_that_becomes_one(load):
    text = labelled("malignant", "benign")
    assert load(text, positive="benign").label_mapping == {"malignant": 0, "benign": 1}
    refused(load, "Did you mean 'benign'?", text, positive="bening")


def test_a_wrong_target_gets_the_nearest_column(load):
    refused(load, "data.target='Y' is not a column. Did you mean 'y'? The columns are 'a', 'b', 'y'.", GOOD, target="Y")
    text = GOOD.replace("a,b,y", "a,b,diagnosis")
    refused(load, "Did you mean 'diagnosis'?", text, target="diagnosys")


def test_features_are_chosen_by_name(load):
    assert load(GOOD, features=["b"]).feature_names == ("b",)
    assert load(GOOD, features=["b", "a"]).feature_names == ("b", "a")
    refused(load, "'c' in data.features is not a column", GOOD, features=["c"])
    refused(load, "data.features is empty", GOOD, features=[])
    refused(load, "more than one column 'a'", GOOD, features=["a", "a"])
    refused(load, "data.features contains the target 'y'", GOOD, features=["a", "y"])


def test_text_columns_are_named_and_can_be_left_out(load):
    text = "a,city,day,y\n" + "".join(f"{a},Rome,2020-01-01,{y}\n" for a, _, y in ROWS)
    refused(load, "column 'city' holds text ('Rome' at sample 1, line 2); not numbers either: 'day'", text)
    refused(load, "name those to train on, 'data.features=[a]'.", text)
    assert load(text, features=["a"]).feature_names == ("a",)


@pytest.mark.parametrize("name", ["w(kg)", "a=b", "it's", 'so "called"', "größe", "a b", "null", "$HOME", "[a]"])
def test_the_columns_suggested_can_be_pasted_into_a_shell(load, name):
    header = name.replace('"', '""')
    text = f'"{header}",city,y\n' + "".join(f"{a},Rome,{y}\n" for a, _, y in ROWS)
    with pytest.raises(DataError) as caught:
        load(text)
    (argument,) = shlex.split(str(caught.value).partition("name those to train on, ")[2].removesuffix("."))
    override = OverridesParser.create().parse_override(argument)
    # An interpolation would be resolved only later; no name here holds one.
    assert (override.key_or_group, override.value()) == ("data.features", [name])
    assert load(text, features=override.value()).feature_names == (name,)


def test_of_many_columns_some_are_suggested(load):
    names = [f"column_{number:02}" for number in range(40)]
    text = ",".join([*names, "city", "y"]) + "\n"
    text += "".join(",".join([*["1"] * 39, str(row), "Rome", str(row % 2)]) + "\n" for row in range(40))
    with pytest.raises(DataError) as caught:
        load(text)
    found = re.search(r"such as (.*) \((\d+) more hold numbers\)\.$", str(caught.value))
    assert found is not None
    chosen = OverridesParser.create().parse_override(*shlex.split(found[1])).value()
    assert chosen == names[: 40 - int(found[2])] and len(chosen) > 10
    # A message is one line, in which this name would be another.
    refused(load, "add data.text=onehot or data.text=drop.", 'city,"a\nb",y\n' + "Rome,1,0\n" * 9)


def test_row_numbers_written_by_pandas_are_left_out_with_a_note(load):
    text = ",a,y\n" + "".join(f"{row},{a},{y}\n" for row, (a, _, y) in enumerate(ROWS))
    dataset = load(text)
    assert dataset.feature_names == ("a",)
    assert dataset.notes == ("Left out, as it numbers the rows: ''.",)
    from_one = ",a,y\n" + "".join(f"{row},{a},{y}\n" for row, (a, _, y) in enumerate(ROWS, 1))
    assert load(from_one).notes == dataset.notes
    assert load(from_one, features=["", "a"]).feature_names == ("", "a")
    refused(load, "has no column but the target 'y'", ",y\n" + "".join(f"{row},{row % 2}\n" for row in range(40)))


@pytest.mark.parametrize("cell", [lambda row: row % 7, lambda row: 39 - row, lambda row: row + 2, lambda row: row / 2])
def test_an_unnamed_column_of_data_is_a_feature_with_a_note(load, cell):
    dataset = load(",a,y\n" + "".join(f"{cell(row)},{a},{y}\n" for row, (a, _, y) in enumerate(ROWS)))
    assert dataset.feature_names == ("", "a")
    assert dataset.notes == ("A feature, though it has no name, as it does not number the rows: ''.",)


def test_an_unnamed_column_without_numbers_is_left_out_for_that(load):
    trailing = load("a,y,\n" + "".join(f"{a},{y},\n" for a, _, y in ROWS))
    assert (trailing.feature_names, trailing.notes) == (("a",), ("Left out, as it is empty: ''.",))
    named = load(",a,y\n" + "".join(f"row {row},{a},{y}\n" for row, (a, _, y) in enumerate(ROWS)))
    assert (named.feature_names, named.notes) == (("a",), ("Left out, as it has no name and holds text: ''.",))
    refused(load, "column '' has 39 missing cells", "a,y,\n1,1,5\n" + "".join(f"{a},{y},\n" for a, _, y in ROWS[1:]))


def test_conversions_of_features_are_noted(load):
    text = "flag,id,same,y\n" + "".join(f"{str(a > 9).lower()},{2**60 + b},0.1,{y}\n" for a, b, y in ROWS)
    dataset = load(text)
    assert dataset.notes == (
        "Read as 0 (false) and 1 (true): 'flag'.",
        "Integers above 2**53 were rounded to float64: 'id'.",
        "Constant in the training split, so shifted to 0 but not scaled: 'id', 'same'.",
    )
    assert dataset.train.features[:, 2].abs().max() == 0


def test_integers_beyond_64_bits_are_read_as_floats_with_a_note(load):
    text = "a,y\n" + "".join(f"{row}{'9' * 20},{row % 2}\n" for row in range(1, 41))
    dataset = load(text)
    assert dataset.train.features.isfinite().all() and dataset.train.features.std() > 0.5
    note = ("Integers above 2**53 were rounded to float64: 'a'.",)
    assert dataset.notes == note
    assert load("a,y\n" + "".join(f" {row * 10**18},{row % 2}\n" for row in range(40))).notes == note
    assert load("a,y\n" + "".join(f"-{row}{'0' * 90},{row % 2}\n" for row in range(1, 41))).notes == note


@pytest.mark.parametrize("cell", ["{row}e22", "{row}9999999999999999999999.0", "{row}.5"])
def test_floats_are_not_said_to_be_rounded_integers(load, cell):
    assert load("a,y\n" + "".join(f"{cell.format(row=row)},{row % 2}\n" for row in range(1, 41))).notes == ()


@pytest.mark.parametrize("first", [2**53, 2**63 + 5, 10**40, 10**80])
def test_large_integers_are_labels_as_written(load, first):
    second = first + 1
    text = labelled(first, second)
    assert load(text).label_mapping == {str(first): 0, str(second): 1}
    assert load(text, positive=str(first)).label_mapping == {str(second): 0, str(first): 1}
    assert float(load(text).train.targets.sum()) == 12


def test_large_offsets_keep_their_spread(load):
    """Seconds since 1970 differ by less than float32 can tell: scaling must come before the conversion."""
    text = "a,y\n" + "".join(f"{1_700_000_000 + row},{row % 2}\n" for row in range(40))
    features = load(text).train.features[:, 0]
    assert len(features.unique()) == 24
    assert float(features.std(correction=0)) == pytest.approx(1, abs=1e-6)


def test_numbers_too_large_for_float32_are_refused_unscaled_and_scaled_otherwise(load):
    text = "a,y\n" + "".join(f"{row}e39,{row % 2}\n" for row in range(1, 41))
    refused(load, "a number in column 'a' at sample 1 is too large for float32.", text, standardize=False)
    assert load(text).train.features.abs().max() < 3


def test_the_fingerprint_follows_the_bytes(load):
    first = load(GOOD).fingerprint
    assert load(GOOD).fingerprint == first
    assert load(GOOD.replace("0.5", "0.6")).fingerprint != first


def test_without_pyarrow_the_message_says_how_to_get_it(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(load, "pip install gradkit[data]", GOOD)


def test_importing_the_package_does_not_import_pyarrow():
    code = "import sys, gradkit.train.data; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_random_bytes_are_refused(load):
    random = np.random.default_rng(0)
    for size in (1, 10, 5000):
        for low in (0, 1, 32):
            data = random.integers(low, 256, size, dtype=np.uint8).tobytes()
            with pytest.raises(DataError):
                load(data)


# --- tables as people export them


def same(found, expected):
    """Two data sets hold the same numbers."""
    pairs = [(getattr(found, name), getattr(expected, name)) for name in ("train", "validation", "test")]
    return all(torch.equal(a.features, b.features) and torch.equal(a.targets, b.targets) for a, b in pairs)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "cp1252", "shift_jis"])
def test_other_encodings_are_read(load, encoding):
    text = GOOD.replace("a,", "größe," if encoding != "shift_jis" else "重さ,", 1)
    expected = load(text)
    found = load(text.encode(encoding), **({} if encoding == "utf-16" else {"encoding": encoding}))
    assert same(found, expected) and found.feature_names == expected.feature_names
    assert found.notes == (("Read as UTF-16, by its byte-order mark.",) if encoding == "utf-16" else ())


def test_a_windows_page_is_named_where_it_matters(load):
    text = "a,größe,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in ROWS)
    with pytest.raises(DataError, match=r"header is not text in UTF-8; .* add data\.encoding=cp1252"):
        load(text.encode("cp1252"))
    with pytest.raises(DataError, match=r"holds bytes that are not UTF-8 text; .* add data\.encoding=cp1252"):
        load(GOOD.replace("\n0.5", "\n½").encode("cp1252"))
    with pytest.raises(ConfigError, match=r"data\.encoding='latin-99' is no encoding"):
        load(GOOD.encode(), encoding="latin-99")


def test_a_decimal_comma_is_read_and_proposed(load):
    text = GOOD.replace(",", ";").replace(".", ",")
    assert same(load(text, delimiter=";", decimal=","), load(GOOD))
    refused(load, "if the comma is the point of its numbers, add \"data.decimal=','\"", text, delimiter=";")


def test_what_stands_before_the_header_is_passed_over_and_said(load):
    expected = load(GOOD)
    excel = load("sep=;\r\n" + GOOD.replace(",", ";"))
    assert same(excel, expected) and excel.notes == ("Cells separated by ';', as its first line says.",)
    commented = load("# exported 2024\n# by us\n" + GOOD)
    assert same(commented, expected) and commented.notes == ("Passed over 2 lines of comment before the header.",)
    refused(load, "at sample 4 of 40, line 7", "# one\n# two\n" + GOOD.replace("\n1.5,1", "\n,1"))


@pytest.mark.parametrize("mark", ["", "?", "NA", "n/a", "-", "None"])
def test_missing_cells_are_filled_from_the_training_split(load, mark):
    random = np.random.default_rng(0)
    rows = [(random.normal(), random.normal(), row % 2) for row in range(200)]
    gaps = set(random.choice(200, 40, replace=False).tolist())
    text = "a,b,y\n" + "".join(f"{mark if n in gaps else a},{b},{y}\n" for n, (a, b, y) in enumerate(rows))
    for strategy, middle in (("mean", torch.mean), ("median", lambda values: values.quantile(0.5))):
        found = load(text, missing=strategy, standardize=False)
        assert found.notes == (f"Gaps filled by the {strategy} of the training split: 'a'.",)
        whole = load(text.replace(f"\n{mark},", "\n1e9,"), standardize=False)
        known = whole.train.features[:, 0] < 1e8
        for split, given in ((found.train, whole.train), (found.test, whole.test)):
            here = given.features[:, 0] < 1e8
            fill = middle(whole.train.features[known, 0].double())
            assert torch.allclose(split.features[~here, 0].double(), fill, rtol=1e-6)
            assert torch.equal(split.features[here], given.features[here])
    dropped = load(text, missing="drop")
    assert sum(map(len, (dropped.train, dropped.validation, dropped.test))) == 160
    assert dropped.notes == ("Left out 40 of 200 samples, as they have missing cells.",)


def test_text_is_taken_apart_by_the_categories_of_the_training_split(load):
    text = "a,city,y\n" + "".join(f"{a},{('Rome', 'Köln', '')[n % 3]},{y}\n" for n, (a, _, y) in enumerate(ROWS))
    found = load(text, text="onehot", missing="mean", standardize=False)
    assert found.feature_names == ("a", "city=Köln", "city=Rome")
    assert found.notes[-1] == "Text taken apart by the categories of the training split: 'city' into 2 columns."
    for split in (found.train, found.test):
        city = (2 * split.features[:, 0]).round().long() % 3
        assert torch.equal(split.features[:, 1:], torch.stack([city == 1, city == 0], 1).float())
    left = load(text, text="drop")
    assert (left.feature_names, left.notes) == (("a",), ("Left out, as data.text=drop says: 'city'.",))
    refused(load, "column 'city' has 13 missing cells", text, text="onehot")
    many = "a,name,y\n" + "".join(f"1,x{row},{row % 2}\n" for row in range(400))
    refused(load, "different texts, more than the 100", many, text="onehot")
    refused(load, "add data.text=drop", many)


def test_a_category_that_training_never_saw_is_none(load):
    rows = [f"{row},{'seen' if row else 'once'},{row % 2}\n" for row in range(60)]
    found = [load("a,c,y\n" + "".join(rows[k:] + rows[:k]), text="onehot", standardize=False) for k in (0, 7, 13, 20)]
    assert {each.feature_names for each in found} >= {("a", "c=seen")}


def test_dates_are_named_left_out_or_counted_in_days(load):
    text = "day,a,y\n" + "".join(f"2020-01-{n % 28 + 1:02},{a},{y}\n" for n, (a, _, y) in enumerate(ROWS))
    refused(load, "add data.dates=ordinal or data.dates=drop", text)
    assert load(text, dates="drop").feature_names == ("a",)
    found = load(text, dates="ordinal", standardize=False)
    assert found.train.features[:, 0].min() >= 18262 and found.train.features[:, 0].max() < 18262 + 28
    assert found.notes == ("Read as days since 1970: 'day'.",)


@pytest.mark.parametrize("name", ["id", "ID", "index", "Unnamed: 0"])
def test_a_column_that_counts_the_rows_is_left_out_unless_named(load, name):
    text = f"{name},a,y\n" + "".join(f"{n},{a},{y}\n" for n, (a, _, y) in enumerate(ROWS))
    found = load(text)
    assert (found.feature_names, found.notes) == (("a",), (f"Left out, as it numbers the rows: {name!r}.",))
    assert load(text, features=[name, "a"]).feature_names == (name, "a")
    other = text.replace("\n5,", "\n500,")
    assert load(other).feature_names == (name, "a")


def test_labels_that_differ_in_case_or_blanks_only_are_named(load):
    text = "a,y\n" + "".join(f"{n},{('yes', 'no', 'Yes ')[n % 3]}\n" for n in range(30))
    refused(load, "only case or blanks tell apart 'Yes ', 'yes'", text)


def test_composed_and_decomposed_names_are_one(load):
    text = GOOD.replace("a,b,y", "ma\u0308dchen,b,\u00e9")
    assert load(text, target="e\u0301", features=["m\u00e4dchen"]).feature_names == ("m\u00e4dchen",)
    refused(load, "more than one column 'é'", GOOD.replace("a,b,y", "e\u0301,b,\u00e9"), target="b")

"""The tables that scikit-learn ships are trained on as well as by its own LogisticRegression, or refused well."""

import csv
import gzip
import random
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from gradkit.errors import GradkitError
from gradkit.train.data import load_dataset
from gradkit.train.schema.data import CsvData
from tests.train.runs import train_arm

SHIPPED = resources.files("sklearn.datasets") / "data"


def shipped() -> list[str]:
    return sorted(each.name for each in SHIPPED.iterdir() if ".csv" in each.name)


def written(tmp_path: Path, name: str, *, header: list[str], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """A shipped table with a header line of its own, as an export has it."""
    rows = list(csv.reader((SHIPPED / name).read_text(encoding="utf-8").splitlines()[1:]))
    path = tmp_path / "table.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def accuracy_of_logistic_regression(config: CsvData, seed: int) -> float:
    from sklearn.linear_model import LogisticRegression

    data = load_dataset(config, seed)
    model = LogisticRegression(C=1e6, max_iter=10_000).fit(data.train.features.numpy(), data.train.targets.numpy())
    return float(model.score(data.test.features.numpy(), data.test.targets.numpy()))


def test_every_shipped_table_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    found = {}
    for name in shipped():
        path = tmp_path / name
        path.write_bytes((SHIPPED / name).read_bytes())
        try:
            found[name] = load_dataset(CsvData(path=str(path), target="target"), 0).name
        except GradkitError as error:
            assert "\n" not in str(error) and len(str(error)) < 600
            found[name] = str(error)
    assert len(found) >= 7
    assert all("compressed by gzip; unpack it first" in said for name, said in found.items() if name.endswith(".gz"))
    # Their first lines count samples and features instead of naming columns.
    assert "'target' is not a column" in found["iris.csv"]
    assert "cells, expected 4 as in the header" in found["breast_cancer.csv"]
    assert "separated by ' '" in found["linnerud_exercise.csv"] or "not a column" in found["linnerud_exercise.csv"]


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-16")])
def test_breast_cancer_from_its_file_is_learned_as_well_as_by_scikit_learn(
    tmp_path: Path, delimiter: str, encoding: str
) -> None:
    header = [*(f"größe {number}" for number in range(30)), "target"]
    path = written(tmp_path, "breast_cancer.csv", header=header, delimiter=delimiter, encoding=encoding)
    config = CsvData(path=str(path), target="target", delimiter=delimiter)
    manifest = train_arm(
        tmp_path / "run",
        "data=csv",
        f"data.path={path}",
        "data.target=target",
        f"data.delimiter='{delimiter}'",
        "optimizer=lbfgs",
        "trainer.batch_size=1000",
        "trainer.epochs=5",
        "trainer.accelerator=cpu",
        "watch=none",
    )
    expected = accuracy_of_logistic_regression(config, 0)
    assert manifest["metrics"]["test"]["accuracy"] == pytest.approx(expected, abs=0.01 + 1 / 114)


@pytest.mark.parametrize("name", ["iris.csv", "wine_data.csv"])
def test_three_classes_are_refused_with_their_names(tmp_path: Path, name: str) -> None:
    width = len((SHIPPED / name).read_text().splitlines()[1].split(","))
    path = written(tmp_path, name, header=[*(f"x{number}" for number in range(width - 1)), "target"])
    with pytest.raises(GradkitError, match=r"holds 3 classes \(such as 0, 1, 2\); binary classification needs exactly"):
        load_dataset(CsvData(path=str(path), target="target"), 0)


def test_diabetes_is_refused_as_a_regression(tmp_path: Path) -> None:
    features = gzip.decompress((SHIPPED / "diabetes_data_raw.csv.gz").read_bytes()).decode().splitlines()
    targets = gzip.decompress((SHIPPED / "diabetes_target.csv.gz").read_bytes()).decode().split()
    rows = [f"{','.join(row.split())},{float(target):g}" for row, target in zip(features, targets, strict=True)]
    (tmp_path / "table.csv").write_text("\n".join([",".join([*"abcdefghij", "y"]), *rows]))
    with pytest.raises(GradkitError, match="like the target of a regression"):
        load_dataset(CsvData(path=str(tmp_path / "table.csv"), target="y"), 0)


def mutated(text: str, randomness: random.Random) -> bytes:
    """The table with a few things done to it that exports, editors and accidents do."""
    lines = text.splitlines()
    for _ in range(randomness.randint(1, 3)):
        place = randomness.randrange(len(lines))
        cells = lines[place].split(",")
        cell = randomness.randrange(len(cells))
        odd = [
            "",
            "?",
            "NA",
            "1,5",
            "x",
            "é",
            "2020-01-01",
            "1e999",
            "-0",
            "inf",
            '"',
            '"a""b"',
            "\0",
            " 1 ",
            "\u0661",
            "0x1",
        ]
        change = randomness.randrange(9)
        if change == 0:
            cells[cell] = randomness.choice(odd)
            lines[place] = ",".join(cells)
        elif change == 1:
            lines[place] = ",".join(cells[:cell])
        elif change == 2:
            lines.insert(place, randomness.choice(["", "# comment", "sep=,", ",,,", lines[0]]))
        elif change == 3:
            lines = [line.replace(",", randomness.choice(";\t|")) for line in lines]
        elif change == 4:
            lines[0] = randomness.choice(
                ["", "a,a,b,y", "id,a,b,y", "Unnamed: 0,a,b,y", "e\u0301,\u00e9,b,y", "1,2,3,4"]
            )
        elif change == 5:
            column = cell % 4
            rows = [line.split(",") for line in lines]
            word = randomness.choice(odd)
            lines = [
                ",".join([*row[:column], word, *row[column + 1 :]]) if n else ",".join(row)
                for n, row in enumerate(rows)
            ]
        elif change == 6:
            lines = lines[: randomness.randrange(len(lines))] or [""]
        elif change == 7:
            lines = [lines[0], *reversed(lines[1:])]
        else:
            lines[place] *= randomness.choice([0, 2, 500])
    encoding = randomness.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "latin-1"])
    return randomness.choice(["\n", "\r\n", "\n\n"]).join(lines).encode(encoding, "replace")


def mutate_and_read(tmp_path: Path, count: int, seed: int) -> dict[str, int]:
    randomness = random.Random(seed)
    numbers = np.random.default_rng(seed).normal(size=(40, 3)).round(3)
    text = "a,b,c,y\n" + "\n".join(",".join(map(str, row)) + f",{n % 2}" for n, row in enumerate(numbers.tolist()))
    path = tmp_path / "table.csv"
    ended = {"read": 0, "refused": 0}
    for _ in range(count):
        path.write_bytes(mutated(text, randomness))
        options = {
            "missing": randomness.choice([None, "drop", "mean", "median"]),
            "text": randomness.choice([None, "onehot", "drop"]),
            "dates": randomness.choice([None, "ordinal", "drop"]),
            "encoding": randomness.choice([None, None, None, "cp1252", "utf-16"]),
            "delimiter": randomness.choice([",", ",", ",", ";"]),
        }
        try:
            data = load_dataset(CsvData(path=str(path), target="y", **options), 0)  # type: ignore[arg-type]
        except GradkitError as error:
            assert "\n" not in str(error) and "Traceback" not in str(error)
            ended["refused"] += 1
        else:
            assert data.train.features.isfinite().all() and set(data.train.targets.tolist()) == {0.0, 1.0}
            assert data.input_shape == (len(data.feature_names),) == (data.train.features.shape[1],)
            ended["read"] += 1
    return ended


def test_a_mutated_table_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    assert min(mutate_and_read(tmp_path, 120, 0).values()) > 10


@pytest.mark.slow
def test_a_thousand_mutated_tables_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    assert min(mutate_and_read(tmp_path, 1000, 1).values()) > 100

"""Golden files: what is kept, how it reads, and what is refused."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkit.errors import DataError
from gradkit.trajectory.values import COLUMNS, ParameterPrint, Trajectory

NUMBERS = st.floats(width=64) | st.sampled_from([math.inf, -math.inf, 0.0, -0.0, 1e300])
PAIRS = st.tuples(NUMBERS, NUMBERS)
PRINTS = st.builds(
    ParameterPrint,
    shape=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    initial=st.none() | PAIRS,
    final=st.none() | PAIRS,
    first_gradient=st.none() | PAIRS,
)
TRAJECTORIES = st.builds(
    Trajectory,
    rows=st.lists(st.dictionaries(st.sampled_from(COLUMNS), NUMBERS, min_size=1), min_size=1, max_size=5),
    parameters=st.dictionaries(st.text(max_size=8), PRINTS, max_size=3),
    settings=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), max_size=3),
    dtype=st.just("float64"),
)


def alike(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


@given(TRAJECTORIES)
def test_a_float64_trajectory_survives_its_file_bit_by_bit(trajectory: Trajectory) -> None:
    text = trajectory.to_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    with tempfile.TemporaryDirectory() as folder:
        back = _read(text, Path(folder))
    assert back.settings == trajectory.settings and back.dtype == "float64"
    assert len(back.rows) == len(trajectory.rows)
    for old, new in zip(trajectory.rows, back.rows, strict=True):
        assert old.keys() == new.keys() and all(alike(old[name], new[name]) for name in old)
    assert list(back.parameters) == list(trajectory.parameters)
    for name, old_print in trajectory.parameters.items():
        for moment in ("initial", "final", "first_gradient"):
            before, after = getattr(old_print, moment), getattr(back.parameters[name], moment)
            assert (before is None) == (after is None)
            assert before is None or all(map(alike, before, after))
    assert back.to_text() == text


def _read(text: str, folder: Path) -> Trajectory:
    (folder / "read.json").write_text(text, encoding="utf-8")
    return Trajectory.read(folder / "read.json")


def test_float32_is_kept_exactly_in_nine_digits(tmp_path: Path) -> None:
    import numpy as np

    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    trajectory = Trajectory([{"loss": float(value)} for value in values], dtype="float32")
    back = _read(trajectory.to_text(), tmp_path)
    assert all(np.float32(row["loss"]) == value for row, value in zip(back.rows, values, strict=True))


def test_a_file_has_one_line_per_step_and_parameter_and_is_small(tmp_path: Path) -> None:
    from tests.trajectory.loops import train

    train().write(tmp_path / "deep" / "golden.json")
    lines = (tmp_path / "deep" / "golden.json").read_text().splitlines()
    assert sum(line.startswith("    [") for line in lines) == 15
    assert sum(line.startswith('    "') for line in lines) == 4
    assert len(lines) == 15 + 4 + 10
    assert (tmp_path / "deep" / "golden.json").stat().st_size < 4500


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "schema version None; this gradkit reads version 1"),
        ('{"schema_version": 2}', "schema version 2; this gradkit reads version 1"),
        ('{"schema_version": 1}', "is no golden file of a trajectory: it has no `columns`"),
        (
            '{"schema_version": 1, "columns": ["step", "loss"], "steps": [[0]], "parameters": {}}',
            "no golden file of a trajectory: it has no `dtype`",
        ),
        (
            '{"schema_version": 1, "columns": ["step", "loss"], "steps": [[0, "one"]], "parameters": {}}',
            "no golden file of a trajectory: it has no `dtype`",
        ),
        (
            '{"schema_version": 1, "dtype": null, "settings": {}, "columns": [], "steps": [], "parameters": []}',
            "no golden file of a trajectory: `parameters` is list, expected dict",
        ),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "golden.json").write_text(text)
    with pytest.raises(DataError, match=words):
        Trajectory.read(tmp_path / "golden.json")


def test_records_of_a_loop_of_ones_own_are_taken() -> None:
    import torch

    trajectory = Trajectory.of_records([{"step": 0, "loss": torch.tensor(0.5), "lr": None}, {"loss": 1, "step": 1}])
    assert [dict(row) for row in trajectory.rows] == [{"loss": 0.5}, {"loss": 1.0}]
    assert trajectory.columns == ("loss",)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([{"los": 1.0}], "Record 0 has an unknown name 'los'. Did you mean 'loss'?"),
        ([{"loss": 1.0}, {"loss": "x"}], "Record 1: loss is 'x', expected a number."),
        ([{"loss": 1.0, "step": 1}], "Record 0 is of step 1; expected every step from 0 on."),
        ([{"step": 0}], "Record 0 holds no number; expected a loss at least."),
        ([{"loss": None}], "Record 0 holds no number"),
    ],
)
def test_records_that_cannot_be_used_are_refused(records: list[dict[str, object]], words: str) -> None:
    with pytest.raises(DataError) as caught:
        Trajectory.of_records(records)
    assert words in str(caught.value)

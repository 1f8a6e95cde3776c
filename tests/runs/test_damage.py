"""Whatever stands in the files of a run, reading it ends well or in one line."""

import json
import logging
import os
import random
from pathlib import Path
from typing import Any

import pytest

from gradkit.errors import GradkitError
from gradkit.runs.folders import load_runs
from gradkit.runs.series import read_series
from gradkit.runs.store import Manifest, raw_events, read_events, read_manifest
from gradkit.train.running.stored import read_stored
from tests.compare.folders import manifest, steps, write

ODD: list[Any] = [None, True, 0, -1, 1e308, 10**400, "", "x", "NaN", [], [1], {}, {"a": {"b": []}}, [[[]]]]


def damaged(content: Any, randomness: random.Random) -> Any:
    """A copy of JSON data in which one value somewhere is another one, or gone."""
    copy = json.loads(json.dumps(content))
    node = copy
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = randomness.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and randomness.random() < 0.7:
            node = node[key]
            continue
        if randomness.random() < 0.2 and isinstance(node, dict):
            del node[key]
        else:
            node[key] = randomness.choice(ODD)
        return copy


def test_a_manifest_with_any_value_replaced_is_read_or_refused(tmp_path: Path) -> None:
    from gradkit.compare.comparison import compare
    from gradkit.compare.tables import csv_text, json_text

    randomness = random.Random(0)
    write(tmp_path / "good", manifest(overrides=["seed=0"], error="x", mode="train"))
    whole = read_manifest(tmp_path / "good")
    assert whole.keys() & Manifest.__annotations__.keys() >= {"status", "overrides", "findings", "metrics"}
    for number in range(150):
        folder = write(tmp_path / str(number) / "run", damaged(whole, randomness), steps(3))
        runs, skipped = load_runs([tmp_path / "good", folder])
        assert len(runs) + len(skipped) == 2
        comparison = compare(runs, skipped=skipped)
        assert json_text(comparison, best=3) and csv_text(comparison)
        try:
            read_stored(str(folder), "run")
        except GradkitError as error:
            assert "\n" not in str(error)


def test_lines_that_are_no_events_are_passed_over_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(tmp_path / "run", manifest(), steps(2))
    strange = ["[" * 60_000 + "]" * 60_000, "3", '{"event": 5}', '{"event": "step", "step": "x"}', "x" * 2_000_000]
    strange += ['{"event": "evaluation", "step": 1, "split": []}', '{"event": "step", "attempt": null}', "{cut"]
    with (folder / "events.jsonl").open("a") as file:
        file.write("\n".join(strange) + "\n" + json.dumps(steps(3)[2]) + "\n")
    with caplog.at_level(logging.WARNING):
        assert [event["step"] for event in read_events(folder)] == [0, 1, 2]
    assert "passed over 7 line(s) that are no events; line 3: it is nested too deeply" in caplog.text
    assert list(read_series(folder)["loss"].steps) == [0, 1, 2]


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", manifest())
    os.mkfifo(folder / "events.jsonl")
    assert list(raw_events(folder)) == []
    (folder / "run.json").unlink()
    os.mkfifo(folder / "run.json")
    with pytest.raises(GradkitError, match="no regular file"):
        read_manifest(folder)

"""Run folders are found in every way they are named; whatever is damaged or foreign is named, not used."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradkit.errors import RunFolderError
from gradkit.runs.folders import load_runs
from tests.compare.folders import manifest, write

GOOD = json.dumps(manifest())
DAMAGED = {
    "empty": ("", "empty"),
    "cut": (GOOD[: len(GOOD) // 2], "cannot be read"),
    "zeros": (b"\0" * 4096, "cannot be read"),
    "not-text": (b"\xff\xfe\x00run", "cannot be read"),
    "list": ("[1, 2]", "schema version 'list'"),
    "number": ("7", "schema version"),
    "foreign": ('{"tool": "another", "run": 1}', "schema version None"),
    "later-schema": (GOOD.replace('"schema_version": 1', '"schema_version": 99'), "schema version 99"),
    "no-status": ('{"schema_version": 1, "findings": []}', "no status"),
    "report": ('{"schema_version": 1, "gradkit": "0.1.0", "run": {"steps": 3}}', "no status"),
    "config-is-text": (json.dumps(manifest(config="lr=0.1")), "`config` is str"),
    "metrics-is-list": (json.dumps(manifest(metrics=[1])), "`metrics` is list, expected dict or null"),
    "timings-is-text": (json.dumps(manifest(timings="fast")), "`timings` is str"),
    "findings-is-dict": (json.dumps(manifest(findings={})), "`findings` is dict"),
    "seed-is-list": (json.dumps(manifest(seed=[1])), "`seed` is list"),
    "nested": ("[" * 200_000 + "]" * 200_000, "nested too deeply"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_manifest_is_skipped_and_named_while_the_others_are_read(name, tmp_path):
    content, reason = DAMAGED[name]
    write(tmp_path / "good", GOOD)
    bad = write(tmp_path / name, content)
    runs, skipped = load_runs([tmp_path])
    assert [run.label for run in runs] == ["good"]
    assert [each.path for each in skipped] == [str(bad)]
    assert reason in skipped[0].reason


def test_a_folder_without_manifest_that_a_run_has_begun_is_named(tmp_path):
    write(tmp_path / "0", GOOD)
    (tmp_path / "1" / ".hydra").mkdir(parents=True)
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "events.jsonl").write_text("")
    (tmp_path / "notes").mkdir()
    runs, skipped = load_runs([tmp_path])
    assert [run.label for run in runs] == ["0"]
    assert {Path(each.path).name for each in skipped} == {"1", "2"}
    assert all("before it wrote run.json" in each.reason for each in skipped)


def test_an_empty_folder_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    runs, skipped = load_runs([tmp_path / "empty"])
    assert runs == []
    assert "no run.json" in skipped[0].reason


def test_run_folder_manifest_glob_and_parent_name_the_same_run_once(tmp_path):
    folder = write(tmp_path / "sweep" / "0", GOOD)
    named = [folder, folder / "run.json", str(tmp_path / "*" / "0"), str(tmp_path / "**" / "run.json"), tmp_path]
    for argument in named:
        assert [run.folder for run in load_runs([argument])[0]] == [folder]
    assert len(load_runs(named)[0]) == 1


def test_a_link_to_a_run_is_that_run(tmp_path):
    folder = write(tmp_path / "run", GOOD)
    (tmp_path / "latest").symlink_to(folder)
    assert len(load_runs([folder, tmp_path / "latest"])[0]) == 1


def test_a_loop_of_links_ends(tmp_path):
    write(tmp_path / "a" / "run", GOOD)
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert len(load_runs([tmp_path])[0]) == 1


def test_runs_of_a_sweep_come_in_the_order_of_their_numbers(tmp_path):
    for number in range(12):
        write(tmp_path / str(number), manifest(seed=number))
    assert [run.seed for run in load_runs([tmp_path])[0]] == list(range(12))


def test_a_run_inside_a_run_folder_is_not_looked_for(tmp_path):
    folder = write(tmp_path / "run", GOOD)
    write(folder / "copy", GOOD)
    assert len(load_runs([tmp_path])[0]) == 1


def test_a_name_that_does_not_exist_is_refused_with_the_nearest(tmp_path):
    write(tmp_path / "unzeroed", GOOD)
    with pytest.raises(RunFolderError, match=r"Did you mean '.*unzeroed'"):
        load_runs([tmp_path / "unzeroedd"])
    with pytest.raises(RunFolderError, match="No folder matches"):
        load_runs([str(tmp_path / "x*")])
    for hostile in ("x" * 10_000, "a\0b"):
        with pytest.raises(RunFolderError):
            load_runs([hostile])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a folder that may not be read")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    write(tmp_path / "good", GOOD)
    closed = write(tmp_path / "closed", GOOD)
    closed.chmod(0)
    try:
        runs, skipped = load_runs([tmp_path])
    finally:
        closed.chmod(0o755)
    assert len(runs) == 1
    assert [each.path for each in skipped] == [str(closed)]


def test_numbers_written_as_words_are_numbers_again(tmp_path):
    folder = write(
        tmp_path / "r", manifest(metrics={"test": {"log_loss": "NaN", "auroc": None, "note": "x", "up": True}})
    )
    (run,), _ = load_runs([folder])
    assert str(run.metrics["test.log_loss"]) == "nan"
    assert not {"test.auroc", "test.note", "test.up"} & run.metrics.keys()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
ENTRIES = ["status", "seed", "config", "metrics", "findings", "timings", "best", "steps", "started", "peaks"]


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(ENTRIES), JSON, max_size=4))
def test_any_json_in_a_manifest_is_either_compared_or_skipped(tmp_path_factory, entries):
    from rich.console import Console

    from gradkit.compare.comparison import compare
    from gradkit.compare.tables import csv_text, json_text
    from gradkit.compare.text import parts

    base = tmp_path_factory.mktemp("any")
    write(base / "odd", manifest() | entries)
    write(base / "good", GOOD)
    runs, skipped = load_runs([base])
    assert len(runs) + len(skipped) == 2
    comparison = compare(runs, skipped=skipped)
    json.loads(json_text(comparison))
    csv_text(comparison)
    with (base / "out").open("w", encoding="utf-8", errors="backslashreplace") as file:
        Console(file=file).print(*parts(comparison))

"""Run files survive crashes, full disks and odd values."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkit.errors import RunFolderError
from gradkit.runs.store import RunStore, raw_events, read_events, read_manifest
from gradkit.store import plain, write_atomically


def step(number: int, attempt: int = 1, **values: float) -> dict[str, object]:
    return {"event": "step", "attempt": attempt, "step": number, **values}


def test_a_manifest_is_read_back(tmp_path: Path) -> None:
    RunStore(tmp_path).update(status="running", seed=3)
    assert read_manifest(tmp_path) == {"schema_version": 1, "status": "running", "seed": 3}


def test_the_last_attempt_of_a_step_counts(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.append([step(0, loss=1.0), step(1, loss=0.9), step(2, loss=0.8)])
    store.append([step(1, attempt=2, loss=0.7)])
    assert [event["loss"] for event in read_events(tmp_path)] == [1.0, 0.7, 0.8]


def test_evaluations_of_different_splits_at_one_step_are_kept_apart(tmp_path: Path) -> None:
    RunStore(tmp_path).append(
        [{"event": "evaluation", "attempt": 1, "step": 5, "split": split} for split in ("validation", "test")]
    )
    assert len(read_events(tmp_path)) == 2


def test_a_half_written_line_is_passed_over_and_the_next_one_is_whole(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.append([step(0)])
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"event":"step","st')
    store._torn = True
    store.append([step(1)])
    assert [event["step"] for event in read_events(tmp_path)] == [0, 1]


def test_non_finite_numbers_are_strict_json_and_come_back(tmp_path: Path) -> None:
    RunStore(tmp_path).append([step(0, loss=float("nan"), grad_norm_l2=float("-inf"))])
    line = (tmp_path / "events.jsonl").read_text()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    event = read_events(tmp_path)[0]
    assert event["loss"] != event["loss"]
    assert event["grad_norm_l2"] == float("-inf")


@given(st.recursive(st.floats() | st.integers() | st.text() | st.none(), lambda inner: st.lists(inner)))
def test_plain_values_are_always_strict_json(value: object) -> None:
    json.dumps(plain(value), allow_nan=False)


def test_a_disk_that_fails_is_reported_once_and_never_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store = RunStore(tmp_path)
    store.append([step(0)])
    real_write = os.write
    full = True

    def write(handle: int, data: bytes) -> int:
        if full:
            real_write(handle, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return real_write(handle, data)

    monkeypatch.setattr("gradkit.runs.store.os.write", write)
    store.append([step(1)])
    store.append([step(2)])
    full = False
    store.append([step(3)])
    assert [event["step"] for event in read_events(tmp_path)] == [0, 3]
    store.update(status="completed")
    assert read_manifest(tmp_path)["lost_events"] == 2
    assert capfd.readouterr().err.count("events.jsonl") == 1


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def refuse(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradkit.store.os.fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 99}', "null"])
def test_a_damaged_or_foreign_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunFolderError, match=r"run\.json"):
        read_manifest(tmp_path)


def test_a_folder_without_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run folder"):
        read_manifest(tmp_path)


def test_a_folder_without_events_has_none(tmp_path: Path) -> None:
    assert list(raw_events(tmp_path)) == []


def test_files_are_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a.json", b"{}")
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_windows_of_two_optimizers_in_one_step_are_both_read(tmp_path):
    store = RunStore(tmp_path)
    store.append([{"event": "window", "step": 0, "optimizer": name, "attempt": 1} for name in ("SGD", "Adam")])
    assert [event["optimizer"] for event in read_events(tmp_path)] == ["SGD", "Adam"]


def test_a_manifest_nested_too_deeply_is_refused_in_words(tmp_path):
    (tmp_path / "run.json").write_text("[" * 100_000)
    with pytest.raises(RunFolderError, match="nested too deeply"):
        read_manifest(tmp_path)

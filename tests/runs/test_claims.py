"""A folder has one writer, which is gone with its process, and the next one tidies up after it."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from gradkit.errors import RunFolderError
from gradkit.runs.checkpoints import Checkpoints, load
from gradkit.runs.claims import LOCK, claimed
from gradkit.runs.store import RunStore, read_events

CONTEXT = multiprocessing.get_context("fork")


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and what is in it."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_second_writer_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    with claimed(tmp_path / "run"):
        (tmp_path / "run" / ".run.json.abcdefgh").touch()
        before = contents(tmp_path)
        for going_on in (False, True):
            refused = pytest.raises(RunFolderError, match=f"being written by process {os.getpid()};")
            with refused, claimed(tmp_path / "run", going_on=going_on):
                raise AssertionError("two writers")
        assert contents(tmp_path) == before
    with claimed(tmp_path / "run"):
        pass


def hold(folder: Path, ready: Path) -> None:
    with claimed(folder):
        ready.touch()
        time.sleep(60)


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    child = CONTEXT.Process(target=hold, args=(tmp_path / "run", tmp_path / "ready"))
    child.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    with pytest.raises(RunFolderError, match=f"process {child.pid};"), claimed(tmp_path / "run"):
        raise AssertionError("two writers")
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with claimed(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).read_text() == str(os.getpid())


def test_a_run_is_not_begun_where_there_is_one(tmp_path: Path) -> None:
    RunStore(tmp_path).update(status="completed")
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunFolderError, match="holds a run already"), claimed(tmp_path):
        raise AssertionError("overwritten")
    assert (tmp_path / "run.json").read_bytes() == before
    with claimed(tmp_path, going_on=True):
        pass


def test_what_killed_writes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    litter = [".run.json.k3_x9qzz", "checkpoints/.step-000000005.pt.abcdefgh", "checkpoints/.best.sha256.12345678"]
    litter += ["checkpoints/step-000000005.sha256", ".write-test"]
    kept = [".hydra.yaml", "notes.txt", ".run.json.backup", "checkpoints/best.sha256", "checkpoints/best.pt"]
    kept += ["other.sha256", "checkpoints/step-000000004.pt", "checkpoints/step-000000004.sha256"]
    for name in (*litter, *kept):
        (tmp_path / name).touch()
    with claimed(tmp_path):
        there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert there == {*kept, LOCK}


def test_a_line_cut_off_by_a_kill_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    RunStore(tmp_path).append([{"event": "step", "step": 0}])
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"event":"step","step":1,"lo')
    RunStore(tmp_path).append([{"event": "step", "step": 1}])
    assert [event["step"] for event in read_events(tmp_path)] == [0, 1]


@pytest.mark.parametrize("killed_after", ["the checksum", "the checkpoint"])
def test_the_best_weights_survive_a_kill_while_they_are_replaced(tmp_path: Path, killed_after: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best({"step": 1})
    old = (tmp_path / "best.pt").read_bytes()
    checkpoints.save_best({"step": 2})
    if killed_after == "the checksum":
        (tmp_path / "best.pt").write_bytes(old)
    assert load(tmp_path / "best.pt")["step"] == (1 if killed_after == "the checksum" else 2)


def test_a_damaged_checkpoint_is_not_vouched_for_when_it_is_replaced(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best({"step": 1})
    damaged = (tmp_path / "best.pt").read_bytes()[:-1] + b"x"
    (tmp_path / "best.pt").write_bytes(damaged)
    checkpoints.save_best({"step": 2})
    (tmp_path / "best.pt").write_bytes(damaged)
    with pytest.raises(Exception, match="is damaged"):
        load(tmp_path / "best.pt")

"""Killed at any moment, in the middle of a write too, a run goes on to the same weights; two writers are refused."""

import itertools
import os
import random
import signal
from pathlib import Path

import pytest

from gradkit.runs.claims import claimed
from gradkit.runs.store import read_manifest
from tests.train.runs import assert_same_weights, train, train_in_child, train_into
from tests.train.test_kill_and_resume import SETTINGS, STEPS, assert_whole, strike_within


def strike_in_write(number: int, when: str) -> None:
    """Have this process kill itself in the atomic write of that number: with half of it written, or before its end."""
    from pathlib import Path as Files

    from gradkit.runs import checkpoints, store

    calls = itertools.count()

    def cut(path: Path, content: bytes) -> None:
        if next(calls) != number:
            write(path, content)
            return
        half = content[: len(content) // 2] if when == "half written" else content
        (path.parent / f".{path.name}.abcd1234").write_bytes(half)
        if when == "replaced":
            Files(path.parent / f".{path.name}.abcd1234").replace(path)
        os.kill(os.getpid(), signal.SIGKILL)

    write = store.write_atomically
    store.write_atomically = checkpoints.write_atomically = cut  # type: ignore[assignment]


def strike_in_append(number: int) -> None:
    """Have this process kill itself with half of the events of that call written."""
    from gradkit.runs.store import EVENTS, RunStore

    calls, original = itertools.count(), RunStore.append

    def append(self: RunStore, events: object) -> None:
        if next(calls) != number:
            original(self, events)  # type: ignore[arg-type]
            return
        with (self.folder / EVENTS).open("ab") as file:
            file.write(b'{"event":"step","attempt":1,"st')
        os.kill(os.getpid(), signal.SIGKILL)

    RunStore.append = append  # type: ignore[method-assign,assignment]


def kill_often(folder: Path, kills: int, seed: int) -> None:
    """Start a run, kill each attempt at a moment of its own, and let the last one end."""
    randomness = random.Random(seed)
    start: tuple[str, ...] = (*SETTINGS, f"hydra.run.dir={folder}")
    killed = 0
    while killed < kills:
        if randomness.random() < 0.5:
            moment = (strike_in_write, (randomness.randrange(8), randomness.choice(["half written", "replaced", "no"])))
        elif randomness.random() < 0.3:
            moment = (strike_in_append, (randomness.randrange(3),))
        else:
            moment = (strike_within, (randomness.randrange(STEPS), signal.SIGKILL))  # type: ignore[assignment]
        status = train_in_child(*start, prepare=moment[0], arguments=moment[1])
        assert status in (0, -signal.SIGKILL)
        killed += 1
        if (folder / "run.json").exists():
            start = (f"trainer.resume={folder}",)
    assert train(*start) == 0


def assert_equal_and_tidy(folder: Path, reference: Path) -> None:
    assert_same_weights(folder, reference)
    assert_whole(folder)
    assert [path.name for path in folder.rglob(".*.????????")] == []
    metrics = [read_manifest(each)["metrics"] for each in (folder, reference)]
    assert metrics[0] == metrics[1]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "run"
    train_into(folder, *SETTINGS)
    return folder


def test_kills_within_writes_end_in_the_same_weights(tmp_path: Path, uninterrupted: Path) -> None:
    kill_often(tmp_path / "run", 4, seed=3)
    assert_equal_and_tidy(tmp_path / "run", uninterrupted)


@pytest.mark.slow
def test_forty_kills_at_random_moments_end_in_the_same_weights(tmp_path: Path, uninterrupted: Path) -> None:
    for seed in range(5):
        kill_often(tmp_path / str(seed), 8, seed=100 + seed)
        assert_equal_and_tidy(tmp_path / str(seed), uninterrupted)


@pytest.mark.slow
def test_twenty_terminations_end_in_the_same_weights(tmp_path: Path, uninterrupted: Path) -> None:
    start: tuple[str, ...] = (*SETTINGS, f"hydra.run.dir={tmp_path / 'run'}")
    for step in sorted(random.Random(2).sample(range(1, STEPS), 20)):
        status = train_in_child(*start, prepare=strike_within, arguments=(step, signal.SIGTERM))
        assert status == 143
        start = (f"trainer.resume={tmp_path / 'run'}",)
    assert train(*start) == 0
    assert_equal_and_tidy(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_second_writer_is_refused_every_time(
    tmp_path: Path, uninterrupted: Path, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in uninterrupted.rglob("*") if path.is_file()}
    with claimed(uninterrupted, going_on=True):
        held = {**before, uninterrupted / ".lock": str(os.getpid()).encode()}
        for _ in range(times):
            assert train(f"trainer.resume={uninterrupted}") == 2
            assert "is being written by process" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in uninterrupted.rglob("*") if path.is_file()} == held

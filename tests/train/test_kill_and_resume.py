"""A run that was killed, terminated or damaged goes on to the same weights, bit by bit."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from gradkit.runs.store import read_events, read_manifest
from gradkit.train.loop.steps import TrainingLoop, Window
from tests.train.runs import assert_same_weights, train, train_in_child, train_into

# Dropout draws from the global generator, Adam and the cosine have state, three micro-batches leave a short tail, and
# the checkpoints fall between epochs.
SETTINGS = (
    "model=mlp",
    "model.hidden=[16]",
    "model.dropout=0.3",
    "optimizer=adam",
    "schedule=cosine",
    "trainer.epochs=8",
    "trainer.batch_size=32",
    "trainer.accumulate=3",
    "trainer.checkpoint_every=5",
    "trainer.flush_every=7",
    "trainer.progress=none",
    "trainer.accelerator=cpu",
)
STEPS = 32  # 343 samples are 11 micro-batches, 4 windows, in each of 8 epochs


def strike_at(step: int, number: int, *, within: bool) -> None:
    """Have the loop of this process send itself a signal in the middle of (or right before) a step."""
    original = TrainingLoop.train_window

    def train_window(self: TrainingLoop, window: Window) -> object:
        if self.progress.step == step:
            if within:
                self.clear_gradients()
            os.kill(os.getpid(), number)
        return original(self, window)

    TrainingLoop.train_window = train_window  # type: ignore[method-assign,assignment]


def strike_within(step: int, number: int) -> None:
    strike_at(step, number, within=True)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "run"
    manifest = train_into(folder, *SETTINGS)
    assert manifest["steps"] == STEPS
    return folder


def assert_whole(folder: Path) -> None:
    """Every step and every epoch's evaluation stands in the record exactly once."""
    events = read_events(folder)
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(STEPS))
    assert sum(event["event"] == "evaluation" and event["split"] == "validation" for event in events) == 8
    assert read_manifest(folder)["status"] == "completed"


def test_six_kills_at_random_steps_end_in_the_same_weights(tmp_path: Path, uninterrupted: Path) -> None:
    folder = tmp_path / "run"
    steps = sorted(random.Random(0).sample(range(6, STEPS), 6))
    start: tuple[str, ...] = (*SETTINGS, f"hydra.run.dir={folder}")
    for step in steps:
        status = train_in_child(*start, prepare=strike_within, arguments=(step, signal.SIGKILL))
        assert status == -signal.SIGKILL
        start = (f"trainer.resume={folder}",)
    assert train(*start) == 0
    assert read_manifest(folder)["attempt"] == 7
    assert_same_weights(folder, uninterrupted)
    assert_whole(folder)


def test_three_terminations_exit_143_and_end_in_the_same_weights(tmp_path: Path, uninterrupted: Path) -> None:
    folder = tmp_path / "run"
    start: tuple[str, ...] = (*SETTINGS, f"hydra.run.dir={folder}")
    for step in sorted(random.Random(1).sample(range(1, STEPS), 3)):
        status = train_in_child(*start, prepare=strike_within, arguments=(step, signal.SIGTERM))
        assert status == 143
        manifest = read_manifest(folder)
        assert manifest["status"] == "interrupted"
        assert manifest["steps"] == step + 1  # the step under way is finished and saved
        start = (f"trainer.resume={folder}",)
    assert train(*start) == 0
    assert_same_weights(folder, uninterrupted)
    assert_whole(folder)


def test_control_c_exits_130_and_can_be_resumed(tmp_path: Path, uninterrupted: Path) -> None:
    folder = tmp_path / "run"
    status = train_in_child(*SETTINGS, f"hydra.run.dir={folder}", prepare=strike_within, arguments=(9, signal.SIGINT))
    assert status == 130
    assert train(f"trainer.resume={folder}") == 0
    assert_same_weights(folder, uninterrupted)


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    tmp_path: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    status = train_in_child(*SETTINGS, f"hydra.run.dir={folder}", prepare=strike_within, arguments=(22, signal.SIGKILL))
    assert status == -signal.SIGKILL
    newest = max((folder / "checkpoints").glob("step-*.pt"))
    assert newest.name == "step-000000020.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    newest.write_bytes(content)
    assert train(f"trainer.resume={folder}") == 0
    assert "step-000000020.pt is damaged" in capsys.readouterr().out
    assert_same_weights(folder, uninterrupted)
    assert_whole(folder)


def test_a_run_killed_before_its_first_checkpoint_starts_again_in_place(
    tmp_path: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    status = train_in_child(*SETTINGS, f"hydra.run.dir={folder}", prepare=strike_within, arguments=(2, signal.SIGKILL))
    assert status == -signal.SIGKILL
    assert train(f"trainer.resume={folder}") == 0
    assert "it starts again from its first step" in capsys.readouterr().out
    assert_same_weights(folder, uninterrupted)
    assert_whole(folder)


def test_a_run_without_any_whole_checkpoint_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    status = train_in_child(*SETTINGS, f"hydra.run.dir={folder}", prepare=strike_within, arguments=(9, signal.SIGKILL))
    assert status == -signal.SIGKILL
    for checkpoint in folder.glob("checkpoints/step-*.pt"):
        checkpoint.write_bytes(b"")
    assert train(f"trainer.resume={folder}") == 2
    assert "No usable checkpoint" in capsys.readouterr().err


def test_a_finished_run_can_be_trained_further(tmp_path: Path) -> None:
    longer, extended = tmp_path / "longer", tmp_path / "extended"
    constant = [setting for setting in SETTINGS if setting != "schedule=cosine"]
    train_into(longer, *constant)
    short = ["trainer.epochs=3" if setting.startswith("trainer.epochs") else setting for setting in constant]
    train_into(extended, *short)
    assert train(f"trainer.resume={extended}", "trainer.epochs=8") == 0
    assert_same_weights(longer, extended)


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, folder = tmp_path / "table.npz", tmp_path / "run"
    features = np.random.default_rng(0).normal(size=(60, 2))
    np.savez(table, X=features, y=features[:, 0] > 0)
    train_into(folder, "data=npy", f"data.path={table}", "trainer.epochs=1", "trainer.accelerator=cpu")
    before = (folder / "run.json").read_bytes()
    np.savez(table, X=features[::-1], y=features[::-1, 0] > 0)
    for command in ([f"trainer.resume={folder}", "trainer.epochs=2"], ["mode=evaluate", f"run={folder}"]):
        assert train(*command) == 2
        assert "have changed: it was trained on sha256:" in capsys.readouterr().err
    assert (folder / "run.json").read_bytes() == before


def test_a_run_goes_on_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(size=(60, 2))
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    np.savez(tmp_path / "here" / "table.npz", X=features, y=features[:, 0] > 0)
    monkeypatch.chdir(tmp_path / "here")
    settings = ("data=npy", "data.path=table.npz", "trainer.accelerator=cpu")
    manifest = train_into(Path("run"), *settings, "trainer.epochs=1")
    assert (manifest["config"]["data"]["path"], manifest["cwd"]) == ("table.npz", str(tmp_path / "here"))
    whole = train_into(Path("whole"), *settings, "trainer.epochs=2")
    monkeypatch.chdir(tmp_path / "there")
    for _ in range(2):  # where it was gone on with does not become its base
        assert train("trainer.resume=../here/run", "trainer.epochs=2", "trainer.progress=none") == 0
        assert train("mode=evaluate", "run=../here/run", "trainer.progress=none") == 0
    again = read_manifest(tmp_path / "here" / "run")
    assert (again["cwd"], again["metrics"]) == (manifest["cwd"], whole["metrics"])
    assert_same_weights(tmp_path / "here" / "run", tmp_path / "here" / "whole")
    assert list((tmp_path / "there").iterdir()) == []


def test_the_learning_rate_is_recorded_as_it_was_used_after_a_resume(tmp_path: Path) -> None:
    overrides = ("schedule=step", "schedule.every_epochs=1", "trainer.epochs=4", "trainer.accelerator=cpu")
    train_into(tmp_path / "whole", *overrides)
    train_into(tmp_path / "parts", *overrides, "trainer.max_steps=13")
    assert train(f"trainer.resume={tmp_path / 'parts'}", "trainer.max_steps=null") == 0
    whole, parts = (
        [event["lr"] for event in read_events(tmp_path / name) if event["event"] == "step"]
        for name in ("whole", "parts")
    )
    assert parts == whole
    assert whole[0] > whole[-1]


def test_a_run_that_stopped_early_has_nothing_left_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    steps = train_into(folder, "optimizer.lr=20", "trainer.early_stopping=2", "trainer.accelerator=cpu")["steps"]
    assert train(f"trainer.resume={folder}") == 0
    again = read_manifest(folder)
    assert (again["steps"], again["stopped_because"], again["attempt"]) == (steps, "early_stopping=2", 2)
    assert train(f"trainer.resume={folder}", "trainer.early_stopping=5") == 0
    assert read_manifest(folder)["steps"] > steps


@pytest.mark.parametrize(("limit", "made"), [("trainer.epochs=2", 3), ("trainer.max_steps=5", 18)])
def test_a_limit_below_what_was_done_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str, made: int
) -> None:
    folder = tmp_path / "run"
    train_into(folder, "trainer.epochs=3", "trainer.accelerator=cpu")
    before = (folder / "run.json").read_bytes()
    assert train(f"trainer.resume={folder}", limit) == 2
    assert f"{limit} is below the {made} that" in capsys.readouterr().err
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.slow
def test_the_real_command_survives_a_kill_from_outside(tmp_path: Path) -> None:
    import subprocess
    import sys
    import time

    def start(*arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "gradkit.train", *arguments],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    settings = ("data=synthetic", "trainer.max_steps=60000", "trainer.epochs=1000", "trainer.checkpoint_every=300")
    folder = tmp_path / "run"
    for number, expected in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        arguments = (*settings, f"hydra.run.dir={folder}") if expected == -9 else (f"trainer.resume={folder}",)
        process = start(*arguments)
        before = {path.name for path in folder.glob("checkpoints/step-*.pt")}
        deadline = time.monotonic() + 60
        while {path.name for path in folder.glob("checkpoints/step-*.pt")} <= before and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(timeout=60) == expected
    steps = read_manifest(folder)["steps"]
    assert 0 < steps < 60000
    # Both ends are cut to the same length, so that the test does not train sixty thousand steps twice.
    limit = f"trainer.max_steps={steps + 500}"
    assert train(f"trainer.resume={folder}", limit) == 0
    whole = tmp_path / "whole"
    train_into(whole, *settings[2:], settings[0], limit)
    assert_same_weights(folder, whole)

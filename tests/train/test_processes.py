"""Several processes of one run: they stop and go on together, and their mistakes are told where the run was started."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from gradkit.errors import DataError, HygieneError
from gradkit.runs.store import read_events, read_manifest
from gradkit.train.loop.steps import Progress, TrainingLoop
from gradkit.train.running.processes import run_in_processes
from gradkit.train.running.signals import StopSignals
from gradkit.train.schema.loop import TrainerConfig
from tests.forks import TRAIN, server
from tests.train.runs import assert_same_weights, train_in_child, train_or_exit

# Dropout draws from each process's own generator.
SETTINGS = (
    "model=mlp",
    "model.hidden=[16]",
    "model.dropout=0.3",
    "optimizer=adam",
    "trainer.devices=2",
    "trainer.batch_size=16",
    "trainer.flush_every=7",
    "trainer.checkpoint_every=null",
    "trainer.accelerator=cpu",
    "trainer.progress=none",
)
STEPS_PER_EPOCH = 11  # 343 samples are 171 for each of two processes


@pytest.mark.slow
def test_two_processes_stop_together_at_a_signal_and_go_on_to_the_same_weights(tmp_path: Path) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    overrides = (*SETTINGS, "trainer.epochs=1000000", f"hydra.run.dir={stopped}")
    parent = server(TRAIN).start_call(train_or_exit, overrides, None, ())
    deadline = time.monotonic() + 100
    while not (stopped / "events.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(parent.pid, signal.SIGTERM)
    assert parent.wait().status == 143
    manifest = read_manifest(stopped)
    assert (manifest["status"], manifest["stopped_because"]) == ("interrupted", "signal")
    steps = manifest["steps"]
    assert (stopped / "checkpoints" / f"step-{steps:09d}.pt").exists()

    epochs = f"trainer.epochs={steps // STEPS_PER_EPOCH + 3}"
    assert train_in_child(f"trainer.resume={stopped}", epochs) == 0
    assert train_in_child(*SETTINGS, epochs, f"hydra.run.dir={whole}") == 0
    assert_same_weights(stopped, whole)
    manifest = read_manifest(whole)
    assert manifest["environment"]["processes"] == 2
    assert manifest["metrics"]["train"]["accuracy"] > 0.9
    recorded = [event["step"] for event in read_events(stopped) if event["event"] == "step"]
    assert recorded == list(range(manifest["steps"]))


CRASHED = ProcessRaisedException("Connection closed by peer", error_index=1, error_pid=1)
EXITED = ProcessExitedException("exited", error_index=0, error_pid=1, exit_code=143)


class Launcher:
    """Stands in for Fabric: runs the work here, and fails as torch does when a process has failed."""

    def __init__(self, fails: Exception | None = None) -> None:
        self._fails = fails

    def launch(self, function: Any) -> Any:
        try:
            status = function(self)
        except SystemExit as end:
            raise self._fails or EXITED from end
        if self._fails is not None:
            raise self._fails
        return status


@pytest.mark.parametrize("fails", [None, CRASHED], ids=["all processes", "the first process"])
@pytest.mark.parametrize("mistake", [DataError("one class only"), HygieneError("GK101")], ids=type)
def test_a_mistake_found_in_a_process_is_raised_where_the_run_was_started(
    mistake: Exception, fails: Exception | None
) -> None:
    def work(fabric: Any) -> int:
        raise mistake

    with StopSignals() as signals, pytest.raises(type(mistake), match=str(mistake)):
        run_in_processes(Launcher(fails), work, signals)  # type: ignore[arg-type]


def test_a_crash_of_a_process_stays_a_crash() -> None:
    with StopSignals() as signals, pytest.raises(ProcessRaisedException):
        run_in_processes(Launcher(CRASHED), lambda fabric: 0, signals)  # type: ignore[arg-type]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_ends_processes_while_they_set_up_is_what_the_run_ends_by(
    number: signal.Signals, status: int
) -> None:
    child = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
    child.start()

    def work(fabric: Any) -> int:
        os.kill(os.getpid(), number)
        return 0

    with StopSignals() as signals:
        assert run_in_processes(Launcher(EXITED), work, signals) == status  # type: ignore[arg-type]
    child.join(timeout=10)
    assert child.exitcode == -signal.SIGTERM


def test_a_signal_before_any_process_was_started_ends_the_run_at_once() -> None:
    class Starting:
        def launch(self, function: Any) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("went on")

    with StopSignals() as signals, pytest.raises(SystemExit) as stop:
        run_in_processes(Starting(), lambda fabric: 0, signals)  # type: ignore[arg-type]
    assert stop.value.code == 143


class Ranks:
    """Stands in for the Fabric of two ranks, of which the other one answers what it is told."""

    world_size = 2
    device = torch.device("cpu")
    strategy = SimpleNamespace(precision=None)

    def __init__(self, *, late: float = 0, stop: float = 0) -> None:
        self.other, self.asked = torch.tensor([late, stop]), 0

    def broadcast(self, mine: float | None) -> float | None:
        return 0.25

    def all_reduce(self, mine: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        self.asked += 1
        return mine + self.other


def loop_of_two_ranks(ranks: Ranks, *, step: int, micro_batch: int, **trainer: Any) -> TrainingLoop:
    loop = object.__new__(TrainingLoop)
    loop.fabric, loop._ranks = ranks, ranks.world_size  # type: ignore[assignment]
    loop.config = TrainerConfig(seed=0, flush_every=10, **trainer)
    loop.progress = Progress(step=step, micro_batch=micro_batch)
    loop.stop_requested = lambda: False
    return loop


@pytest.mark.parametrize(("other", "reason"), [({"stop": 1}, "signal"), ({"late": 1}, "max_seconds=1000"), ({}, None)])
def test_ranks_decide_together_whether_to_stop(other: dict[str, float], reason: str | None) -> None:
    for step, micro_batch in ((20, 3), (23, 0)):  # where values are read from the device; where an epoch begins
        loop = loop_of_two_ranks(Ranks(**other), step=step, micro_batch=micro_batch, max_seconds=1000)
        assert loop.reason_to_stop(time.perf_counter()) == reason


def test_ranks_do_not_wait_for_one_another_at_every_step() -> None:
    ranks = Ranks(stop=1)
    assert loop_of_two_ranks(ranks, step=23, micro_batch=3).reason_to_stop(time.perf_counter()) is None
    assert ranks.asked == 0


def test_the_loss_that_steers_all_ranks_is_the_first_one_s() -> None:
    """Running statistics differ between ranks, and so do the losses measured with them."""
    loop = loop_of_two_ranks(Ranks(), step=11, micro_batch=0)
    told: list[float] = []
    loop.schedule = SimpleNamespace(after_epoch=lambda: None, after_evaluation=told.append)  # type: ignore[assignment]
    loop.on_epoch_end = lambda inference, eval_mode: 0.5
    loop.finish_epoch()
    assert told == [loop.progress.best_loss] == [0.25]

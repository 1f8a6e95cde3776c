"""Starts training runs for tests: in this process, or in a forked one that can be killed."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gradkit.runs.checkpoints import Checkpoints
from gradkit.runs.store import read_manifest
from gradkit.train.__main__ import main
from gradkit.train.command.compose import session
from gradkit.train.command.plan import Planner
from gradkit.train.command.validate import check
from gradkit.train.running.context import JobContext
from gradkit.train.running.job import execute
from tests.forks import TRAIN, server


def train(*overrides: str) -> int:
    """Run `python -m gradkit.train` in this process; returns its exit status."""
    try:
        return main(list(overrides)) or 0
    except SystemExit as stop:
        return int(stop.code or 0)


def train_into(folder: Path, *overrides: str) -> dict[str, Any]:
    """Train into `folder` and return its manifest; the run must succeed."""
    quiet = () if "trainer.progress=none" in overrides else ("trainer.progress=none",)
    assert train(*overrides, f"hydra.run.dir={folder}", *quiet) == 0
    return read_manifest(folder)


@functools.cache
def _planner() -> Planner:
    with session() as hydra:
        return Planner(hydra)


def train_arm(folder: Path, *overrides: str) -> dict[str, Any]:
    """As `train_into`, in a fraction of the time, for tests of many runs: Hydra composes each choice of groups once."""
    arm = _planner().arm((*overrides, "trainer.progress=none"))
    check(arm.config, trust=())
    folder.mkdir(parents=True)
    execute(arm.config, JobContext(folder, arm.overrides))
    return read_manifest(folder)


def train_or_exit(overrides: tuple[str, ...], prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Train after `prepare(*arguments)`, and end the process with the exit status of the command."""
    if prepare is not None:
        prepare(*arguments)
    sys.exit(train(*overrides))


def train_in_child(
    *overrides: str, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> int | None:
    """Train in a forked process, after `prepare(*arguments)` there; returns its exit code, negative for a signal."""
    return server(TRAIN).call(train_or_exit, overrides, prepare, arguments).status


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The model of the newest checkpoint in a run folder."""
    state, damaged = Checkpoints(folder / "checkpoints").latest()
    assert damaged == []
    return state["model"]


def assert_same_weights(left: Path, right: Path) -> None:
    """The final weights of two runs are equal bit by bit."""
    first, second = final_weights(left), final_weights(right)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name

"""Runs what an experiment is missing: finished runs are known by the hash of their configuration and left alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradkit
from gradkit.errors import ConfigError, GradkitError, RunFolderError
from gradkit.experiment.programs import program
from gradkit.experiment.schema import Arm, Experiment
from gradkit.runs.claims import LOCK, claimed
from gradkit.runs.folders import COMPLETED, Run
from gradkit.runs.store import MANIFEST, read_manifest

HASH_DIGITS = 12
TRACEBACK = "traceback.txt"
"""In the folder of a run that ended in an error nobody foresaw."""


@dataclass(frozen=True)
class PlannedRun:
    """One arm with one seed.

    Attributes:
        arm: Of the experiment.
        seed: Of the run.
        folder: Where it is or will be; its parent's name carries the hash of the configuration.
    """

    arm: Arm
    seed: int
    folder: Path

    @property
    def done(self) -> bool:
        """Whether the folder holds the completed run."""
        try:
            return read_manifest(self.folder).get("status") == COMPLETED
        except GradkitError:
            return False

    def result(self) -> Run:
        """The run as comparisons read it.

        Raises:
            RunFolderError: It is not there.
        """
        return Run(self.folder, f"{self.arm.name}, seed {self.seed}", read_manifest(self.folder))


@dataclass(frozen=True)
class Failure:
    """A run that ended without a result."""

    run: PlannedRun
    reason: str


def plan(experiment: Experiment, runs_folder: Path) -> list[PlannedRun]:
    """Every run of an experiment, its configuration composed and checked; loads no torch.

    Args:
        experiment: What to run.
        runs_folder: Holds all run folders, those of other settings of the experiment too.

    Raises:
        ConfigError: An arm whose overrides cannot be used; names the arm.
    """
    planned = []
    for arm in experiment.arms:
        try:
            config = program(arm.program).resolved(arm.overrides)
        except ConfigError as error:
            raise ConfigError(f"arm {arm.name}: {error}") from None
        name = f"{arm.name.replace('/', '+')[:80]}-{config_hash(arm.program, config)}"
        planned += [PlannedRun(arm, seed, runs_folder / name / f"seed-{seed}") for seed in experiment.seeds]
    # Seed by seed, so that whatever slows the machine for a while slows every arm and not one of them.
    return sorted(planned, key=lambda run: experiment.seeds.index(run.seed))


def config_hash(name: str, config: Mapping[str, Any]) -> str:
    """What tells two arms apart: program, resolved configuration and gradkit's version.

    The seed is not part of it: each seed has its folder below the arm's.
    """
    content = json.dumps([gradkit.__version__, name, config], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:HASH_DIGITS]


def run_missing(
    planned: Sequence[PlannedRun],
    say: Callable[[int, int, PlannedRun], None],
    *,
    launcher: Sequence[str] = (),
) -> list[Failure]:
    """Run what is not done; a failed run is reported and the others go on.

    Args:
        planned: From `plan`.
        say: Called before each run with its number, their count and the run.
        launcher: Overrides of Hydra's launcher for training runs; empty runs them one after the other in this process.

    Returns:
        The runs that failed.

    Raises:
        SystemExit: A run was asked to stop by a signal; what is done stays done.
    """
    missing = [run for run in planned if not run.done]
    failures: list[Failure] = []
    number = 0
    for batch in _batches(missing, together=bool(launcher)):
        for run in batch:
            number += 1
            say(number, len(missing), run)
            _cleared(run.folder)
        try:
            if launcher and batch[0].arm.program == "train":
                from gradkit.experiment.programs.train import sweep

                sweep(batch[0].arm.overrides, {run.seed: run.folder for run in batch}, launcher)
            else:
                for run in batch:
                    program(run.arm.program).run(run.arm.overrides, run.seed, run.folder)
        except GradkitError as error:
            failures += [Failure(run, str(error)) for run in batch if not run.done]
            continue
        except Exception as error:  # of a model or a disk: kept in full beside the run, the other runs go on
            batch[0].folder.mkdir(parents=True, exist_ok=True)
            (batch[0].folder / TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8")
            failures += [Failure(run, f"{type(error).__name__}: {error}") for run in batch if not run.done]
            continue
        failures += [Failure(run, _why(run)) for run in batch if not run.done]
    return failures


def _batches(missing: Sequence[PlannedRun], *, together: bool) -> Iterator[list[PlannedRun]]:
    """Runs one by one, or the seeds of an arm together."""
    if not together:
        yield from ([run] for run in missing)
        return
    arms: dict[Path, list[PlannedRun]] = {}
    for run in missing:
        arms.setdefault(run.folder.parent, []).append(run)
    for batch in arms.values():
        if batch[0].arm.program == "train":
            yield batch
        else:
            yield from ([run] for run in batch)


def _cleared(folder: Path) -> None:
    """Make the folder, without what an interrupted run left; a run of a seed is the same from its start.

    Raises:
        RunFolderError: It cannot be made, or another process is writing to it.
    """
    try:
        if folder.is_symlink():
            raise RunFolderError(f"{folder} is a link; remove it.")
        with claimed(folder, going_on=True):
            for entry in folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != LOCK:
                    entry.unlink()
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be made: {error.strerror or error}.") from None


def forget(planned: Sequence[PlannedRun]) -> None:
    """Remove the results of these runs, for `--fresh`.

    Raises:
        RunFolderError: A folder cannot be removed.
    """
    for run in planned:
        if (run.folder / MANIFEST).exists():
            _cleared(run.folder)


def _why(run: PlannedRun) -> str:
    from gradkit.experiment.programs.train import last_words

    return last_words(run.folder, 1)

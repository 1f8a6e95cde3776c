"""Training runs as arms: composed, checked and run exactly as `python -m gradkit.train` does."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradkit.errors import GradkitError, RunFolderError
from gradkit.runs.store import read_manifest

LOG = "output.txt"
STOPPED = (130, 143)
"""Statuses of a run that was asked to stop, by Ctrl-C and by SIGTERM: the experiment stops with it."""


def resolved(overrides: Sequence[str]) -> dict[str, Any]:
    """See `Program`."""
    from gradkit.train.command.compose import session
    from gradkit.train.command.plan import Planner
    from gradkit.train.command.validate import check

    with session() as hydra:
        config = Planner(hydra).arm([*overrides, "seed=0"]).config
    check(config)
    return dataclasses.asdict(config)


def run(overrides: Sequence[str], seed: int, folder: Path) -> None:
    """See `Program`; what the run prints goes into `output.txt`."""
    from gradkit.train.__main__ import main

    with (
        (folder / LOG).open("w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        status = main([*overrides, f"seed={seed}", "trainer.progress=none", f"hydra.run.dir={folder}"])
    if status in STOPPED:
        raise SystemExit(status)
    if status != 0:
        raise RunFolderError(last_words(folder, status))


def sweep(overrides: Sequence[str], folders: Mapping[int, Path], launcher: Sequence[str]) -> None:
    """Run several seeds of one arm through one of Hydra's launchers.

    Args:
        overrides: Of the arm.
        folders: Seed to run folder; all are children of one folder and named `seed-N`.
        launcher: Overrides that choose and set up the launcher, such as `hydra/launcher=joblib`.

    Raises:
        GradkitError: The sweep could not be started. A single run that failed is found by its folder.
    """
    from gradkit.train.__main__ import main

    parent = next(iter(folders.values())).parent
    seeds = ",".join(map(str, folders))
    with _all_output_into(parent / LOG):
        status = main(
            [
                "-m",
                *overrides,
                f"seed={seeds}",
                "trainer.progress=none",
                f"hydra.sweep.dir={parent}",
                "hydra.sweep.subdir=seed-${seed}",
                *launcher,
            ]
        )
    if status in STOPPED:
        raise SystemExit(status)
    if status not in (0, 1):
        raise RunFolderError(last_words(parent, status))


@contextlib.contextmanager
def _all_output_into(path: Path) -> Iterator[None]:
    """Send what this process and those it starts print into a file: a launcher's workers write past `sys.stdout`."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    try:
        with (
            path.open("w", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            yield
    finally:
        for number, handle in enumerate(kept, start=1):
            os.dup2(handle, number)
            os.close(handle)


def last_words(folder: Path, status: int) -> str:
    """Why a run failed: its manifest's error, or the last line it printed."""
    with contextlib.suppress(GradkitError):
        if error := read_manifest(folder).get("error"):
            return str(error)
    with contextlib.suppress(OSError):
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        if said := [line for line in lines if line.strip()]:
            return said[-1].removeprefix("gradkit.train: ")
    return f"the run ended with status {status}"

"""Several processes of one run: started together, asked to stop together, their mistakes handed to who started them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from gradkit.config.commands import USAGE_ERROR
from gradkit.errors import GradkitError
from gradkit.train.running.signals import StopSignals

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def started_from_outside() -> bool:
    """Whether `torchrun` started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def run_in_processes(fabric: Fabric, work: Callable[[Fabric], int], signals: StopSignals) -> int:
    """Do the work in every process of a run, and return what the first process returns.

    A signal this process receives is passed on as SIGTERM; the processes end between two steps, and this one waits
    for them. A second Ctrl-C ends them at once.

    Args:
        fabric: Knows how many processes there are; not launched.
        work: Takes the launched Fabric and returns an exit status; picklable, called in each process.
        signals: Of this process.

    Raises:
        GradkitError: What the first process to fail raised, as its own.
        SystemExit: The run was asked to stop before it had begun to train, or twice.
    """
    if started_from_outside():
        return int(fabric.launch(work))
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    mistakes: multiprocessing.SimpleQueue[GradkitError] = multiprocessing.get_context("spawn").SimpleQueue()
    signals.defer(partial(_ask_to_stop, signals))
    status = 0
    try:
        status = int(fabric.launch(partial(_reporting, work=work, mistakes=mistakes)))
    except SystemExit:
        end_children()
        raise
    except (ProcessRaisedException, ProcessExitedException):
        # Where one process has failed, the others fail at their next exchange with it: the mistake is what matters.
        if not mistakes.empty():
            raise mistakes.get() from None
        if not signals.requested():
            raise
    return signals.exit_status or status


def end_children() -> None:
    """End the processes of a run at once; each may be waiting for another that has gone."""
    for child in multiprocessing.active_children():
        child.terminate()
    for child in multiprocessing.active_children():
        child.join(timeout=5)
        child.kill()


def _reporting(fabric: Fabric, *, work: Callable[[Fabric], int], mistakes: Any) -> int:
    """Do the work in a process of its own, where an exception would arrive as the text of a traceback."""
    try:
        return work(fabric)
    except GradkitError as error:
        mistakes.put(error)
        raise SystemExit(USAGE_ERROR) from None  # ends the other processes too


def _ask_to_stop(signals: StopSignals) -> None:
    children = multiprocessing.active_children()
    if not children:
        raise SystemExit(signals.exit_status)
    for child in children:
        child.terminate()

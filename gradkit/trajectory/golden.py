"""Holds a run against its golden file, writes it where that is asked for, and words the failure; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradkit.errors import DataError
from gradkit.trajectory.compare import Difference, compare
from gradkit.trajectory.diagnosis import Diagnosis, diagnose
from gradkit.trajectory.tolerances import bounds_for
from gradkit.trajectory.values import Trajectory

_TABLE = ("samples", "loss", "weight_norm_l2", "grad_norm_l2", "update_norm_l2", "lr")
_AROUND = 2
"""Steps shown before and after the first that differs."""


class TrajectoryChangedError(AssertionError):
    """A run left its golden trajectory.

    Attributes:
        difference: The first difference.
        diagnosis: The likeliest kind of change.
    """

    def __init__(self, message: str, difference: Difference, diagnosis: Diagnosis) -> None:
        super().__init__(message)
        self.difference, self.diagnosis = difference, diagnosis


def check(now: Trajectory, path: Path, *, update: bool = False, rtol: float | None = None, shown: str = "") -> bool:
    """Hold a run against its golden file.

    Args:
        now: The run.
        path: The golden file.
        update: Write the file where it is missing, unreadable or left behind; one that still fits is not touched, so
            that accepting a change shows nothing else.
        rtol: Largest relative difference at step 0; None for that of the golden's dtype.
        shown: The file as messages call it; `path` when empty.

    Returns:
        Whether the file was written.

    Raises:
        TrajectoryChangedError: The run left the golden trajectory.
        DataError: The run has no step, or there is no golden file that can be read.
    """
    shown = shown or str(path)
    if not now.rows:
        raise DataError(
            "The run made no optimizer step that was recorded. A loop that updates its parameters by hand says so with "
            "`with recording.step(parameters, loss):`."
        )
    if not path.exists():
        if not update:
            raise DataError(f"There is no golden file {shown} yet. Make it with: pytest --gradkit-update")
        now.write(path)
        return True
    try:
        golden = Trajectory.read(path)
    except DataError:
        if not update:
            raise
        now.write(path)
        return True
    bounds = bounds_for(golden, rtol)
    difference = compare(golden, now, bounds)
    if difference is None:
        return False
    if update:
        now.write(path)
        return True
    diagnosis = diagnose(golden, now, difference, bounds)
    raise TrajectoryChangedError(message(golden, now, difference, diagnosis, shown), difference, diagnosis)


def message(golden: Trajectory, now: Trajectory, difference: Difference, diagnosis: Diagnosis, shown: str) -> str:
    """What a failing test prints: the first difference, the likeliest change, the steps around it, how to accept."""
    where = "" if difference.step is None else f" at step {difference.step}"
    lines = [
        f"The run left its golden trajectory{where}.",
        f"  first difference: {difference}",
        f"  likeliest change: {diagnosis.sentence}.",
        *(f"  because: {fact}" for fact in diagnosis.evidence),
        *_table(golden, now, difference),
        f"Golden file: {shown}. If the change is wanted, accept it with: pytest --gradkit-update",
    ]
    return "\n".join(lines)


def _table(golden: Trajectory, now: Trajectory, difference: Difference) -> Sequence[str]:
    """Golden and present values around the first difference."""
    columns = [name for name in _TABLE if name in golden.columns or name in now.columns]
    if difference.column in golden.columns and difference.column not in columns:
        columns.append(difference.column)
    middle = difference.step if difference.step is not None else min(len(golden.rows), len(now.rows))
    if difference.step is None and difference.column != "number of steps":
        return ()
    last = max(len(golden.rows), len(now.rows)) - 1
    rows = [["step", "run", *(name.replace("_", " ") for name in columns)]]
    for step in range(max(0, middle - _AROUND), min(last, middle + _AROUND) + 1):
        for name, side in (("golden", golden), ("now", now)):
            row = side.rows[step] if step < len(side.rows) else {}
            values = [f"{row[column]:.7g}" if column in row else "" for column in columns]
            rows.append([str(step) if name == "golden" else "", name, *values])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["    " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]

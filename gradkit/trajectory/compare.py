"""Finds the first step at which a run left its golden trajectory, and by how much; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from gradkit.trajectory.tolerances import Bounds
from gradkit.trajectory.values import COMPARED, Trajectory


@dataclass(frozen=True)
class Difference:
    """The first thing that differs.

    Attributes:
        step: The optimizer step, from 0; None for the weights before the first or after the last step, or the dtype.
        column: Name of the quantity, or `initial weights`, `final weights`, `steps`, `dtype`, `parameters`.
        expected: The golden value.
        got: The value now.
        bound: The largest difference that would have passed.
        subject: The parameter, for a difference of one.
    """

    step: int | None
    column: str
    expected: float | str | None
    got: float | str | None
    bound: float | None = None
    subject: str | None = None

    def __str__(self) -> str:
        what = self.column.replace("_", " ") + (f" of {self.subject}" if self.subject else "")
        where = "" if self.step is None else f"step {self.step}: "
        text = f"{where}{what} is {_shown(self.got)} instead of {_shown(self.expected)}"
        if self.bound is not None and isinstance(self.expected, float) and isinstance(self.got, float):
            off = self.got - self.expected
            ratio = f", a factor of {self.got / self.expected:.6g}" if self.expected else ""
            text += f": off by {off:.3g}{ratio}; up to {self.bound:.2g} would have passed"
        return text + "."


def compare(golden: Trajectory, now: Trajectory, bounds: Bounds) -> Difference | None:
    """The first difference in the order of events, or None.

    Args:
        golden: The accepted run.
        now: The run to compare.
        bounds: Tolerances made for `golden`.
    """
    if golden.dtype is not None and now.dtype is not None and golden.dtype != now.dtype:
        return Difference(None, "dtype", golden.dtype, now.dtype)
    if (found := _of_parameters(golden, now)) is not None:
        return found
    if (found := print_difference(golden, now, bounds, "initial")) is not None:
        return found
    for step in range(min(len(golden.rows), len(now.rows))):
        for column in COMPARED:
            value = now.rows[step].get(column)
            if not bounds.same(column, step, value):
                expected = golden.rows[step].get(column)
                return Difference(step, column, expected, value, bounds.at(column, step))
    if len(golden.rows) != len(now.rows):
        return Difference(None, "number of steps", str(len(golden.rows)), str(len(now.rows)))
    return print_difference(golden, now, bounds, "final")


def _of_parameters(golden: Trajectory, now: Trajectory) -> Difference | None:
    if not golden.parameters or not now.parameters:
        return None
    for name in [*golden.parameters, *now.parameters]:
        old, new = golden.parameters.get(name), now.parameters.get(name)
        if old is None or new is None or old.shape != new.shape:
            shapes = [None if each is None else f"of shape {list(each.shape)}" for each in (old, new)]
            return Difference(None, "parameter", shapes[0], shapes[1], subject=name)
    return None


def print_difference(golden: Trajectory, now: Trajectory, bounds: Bounds, moment: str) -> Difference | None:
    """The first parameter whose `initial` or `final` print differs; a projection is held against the norm."""
    steps = 0 if moment == "initial" else len(golden.rows)
    for name, old in golden.parameters.items():
        new = now.parameters.get(name)
        expected, got = getattr(old, moment), getattr(new, moment, None)
        if expected is None or got is None:
            continue
        size = max(abs(expected[0]), abs(expected[1]))
        bound = bounds.at_step(steps) * size
        for before, after in zip(expected, got, strict=True):
            if abs(after - before) > bound or (after != after) != (before != before):
                return Difference(None, f"{moment} weights", before, after, bound, subject=name)
    return None


def _shown(value: float | str | None) -> str:
    if value is None:
        return "missing"
    return f"{value:.9g}" if isinstance(value, float) else str(value)

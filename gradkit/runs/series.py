"""The curves of a run, read from its events: every value once, and thinned for a chart without losing an extreme."""

from __future__ import annotations

import array
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError
from gradkit.runs.store import raw_events
from gradkit.store import number

MOST_SERIES = 200
"""A run has some ten; a file with thousands of names would fill the memory, so names beyond this are left out."""
NOT_VALUES = ("attempt", "step", "epoch")

STALE_SHARE = "window.stale_share"
"""stale / (stale + fresh) of the two norms: 0 when gradients were cleared, towards 1 when hardly anything is new."""

TAKES = ("first", "last", "min", "max", "mean", "median")


@dataclass(frozen=True)
class Series:
    """One recorded value over the steps of a run.

    Attributes:
        steps: Optimizer steps, increasing, int64.
        values: As many numbers, float64; NaN and infinities stay.
    """

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    def take(self, how: str) -> float:
        """One number of the curve.

        Args:
            how: One of `TAKES`; `first` and `last` are values as they are, the others are of the finite values, and
                `max` is infinite once a value was not finite.

        Raises:
            ConfigError: Another word.
        """
        if how not in TAKES:
            raise ConfigError(f"take: expected one of {', '.join(TAKES)}, got {quoted(how)}.")
        finite = self.values[np.isfinite(self.values)]
        if how in ("first", "last"):
            return float(self.values[0 if how == "first" else -1])
        if how == "max" and len(finite) < len(self.values):
            return math.inf
        return float(getattr(np, how)(finite)) if len(finite) else math.nan

    def thinned(self, points: int) -> Series:
        """At most about `points` points: of each stretch of steps the lowest and the highest, and both ends.

        A peak of a single step stays, whatever the length of the run; non-finite values are left out.
        """
        finite = np.isfinite(self.values)
        steps, values = self.steps[finite], self.values[finite]
        if len(steps) <= points:
            return Series(steps, values)
        buckets = max(1, (points - 2) // 2)
        edges = np.linspace(0, len(steps), buckets + 1).astype(np.int64)
        kept = {0, len(steps) - 1}
        for start, end in itertools.pairwise(edges.tolist()):
            if end > start:
                part = values[start:end]
                kept.update((int(start + part.argmin()), int(start + part.argmax())))
        chosen = np.array(sorted(kept))
        return Series(steps[chosen], values[chosen])

    @property
    def non_finite(self) -> int:
        """Values that are NaN or infinite."""
        return int((~np.isfinite(self.values)).sum())


def read_series(folder: Path) -> dict[str, Series]:
    """Every curve of a run folder: `loss`, `window.cosine`, `validation.log_loss` and so on, with `STALE_SHARE`.

    Of steps repeated after a resumption the last attempt's value counts. Half-written lines are passed over. Values are
    kept as packed numbers: a million steps take 24 MB per curve while reading.
    """
    return series_of(raw_events(folder))


def series_of(events: Iterable[Mapping[str, Any]]) -> dict[str, Series]:
    """The curves in events, in whatever order they come; see `read_series`."""
    columns: dict[str, tuple[array.array[int], array.array[float], array.array[int]]] = {}
    for event in events:
        step, attempt = event.get("step"), event.get("attempt", 0)
        if type(step) is not int or type(attempt) is not int or abs(step) >= 2**63 or abs(attempt) >= 2**63:
            continue
        prefix = _prefix(event)
        for name, value in event.items():
            value = number(value) if type(value) is str else value
            if name in NOT_VALUES or (type(value) is not float and type(value) is not int):
                continue
            column = columns.get(prefix + name)
            if column is None:
                if len(columns) >= MOST_SERIES:
                    continue
                column = columns[prefix + name] = (array.array("q"), array.array("d"), array.array("q"))
            try:
                column[1].append(value)
            except OverflowError:  # an integer larger than any float
                continue
            column[0].append(step)
            column[2].append(attempt)
    made = {name: _last_attempts(*column) for name, column in columns.items()}
    for name in [name for name in made if name.endswith("stale_norm_l2")]:
        fresh = made.get(name.replace("stale_norm_l2", "fresh_norm_l2"))
        if fresh is not None and np.array_equal(fresh.steps, made[name].steps):
            stale = made[name].values
            with np.errstate(invalid="ignore", divide="ignore"):
                share = stale / (stale + fresh.values)
            made[name.replace("stale_norm_l2", "stale_share")] = Series(fresh.steps, share)
    return made


def _prefix(event: Mapping[str, Any]) -> str:
    kind = event.get("event")
    if kind == "step":
        return ""
    if kind == "evaluation":
        return f"{event.get('split')}."
    optimizer = str(event.get("optimizer", ""))
    # A second optimizer of the same class is called `Adam#2`; the first keeps the plain names.
    return f"{kind}[{optimizer}]." if "#" in optimizer else f"{kind}."


def _last_attempts(steps: array.array[int], values: array.array[float], attempts: array.array[int]) -> Series:
    where, value = np.frombuffer(steps, dtype=np.int64), np.frombuffer(values, dtype=np.float64)
    order = np.lexsort((np.arange(len(where)), np.frombuffer(attempts, dtype=np.int64), where))
    where, value = where[order], value[order]
    last = np.append(where[1:] != where[:-1], True)
    return Series(where[last], value[last])

"""Curves for charts: which belong together, thinned for one run, and brought together over the seeds of an arm."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkit.runs.series import Series

POINTS_OF_A_RUN = 500
"""Points per curve of one run, extremes of every stretch included."""
POINTS_OF_AN_ARM = 160
"""Places along the steps at which the curves of several seeds are brought together."""
MOST_CHARTS = 24


@dataclass(frozen=True)
class Group:
    """Curves that share a chart.

    Attributes:
        title: Of the chart.
        y: Title of the vertical axis.
        names: Of the series.
        log: Logarithmic vertical axis.
        alt: What it shows.
    """

    title: str
    y: str
    names: tuple[str, ...]
    log: bool
    alt: str


_KNOWN: tuple[tuple[str, str, Callable[[str], bool], bool], ...] = (
    ("Loss", "loss", lambda name: name in ("loss", "validation.log_loss"), False),
    ("Gradient norms", "2-norm", lambda name: name.endswith("norm_l2"), True),
    (
        "Stale share of the consumed gradient",
        "stale / (stale + fresh)",
        lambda name: name.endswith("stale_share"),
        False,
    ),
    ("Cosine to the fresh gradient", "cosine", lambda name: name.endswith("cosine"), False),
    ("Windows mixed", "windows", lambda name: name.endswith("windows_mixed"), False),
    ("Learning rate", "learning rate", lambda name: name == "lr" or name.endswith("learning_rate"), True),
    ("Update ratio", "update / parameter", lambda name: name.endswith("update_ratio"), True),
    ("Memory", "bytes", lambda name: name.endswith("bytes"), False),
    ("Time", "seconds", lambda name: name.endswith("seconds"), False),
    ("Difference of the hand-derived gradient", "difference", lambda name: name.endswith("_diff"), True),
)


def groups(names: Iterable[str]) -> list[Group]:
    """The charts a run's series make, the most telling first; series nobody knows get a chart each.

    Args:
        names: Of all series.
    """
    left = list(dict.fromkeys(names))
    made = []
    for title, y, belongs, log in _KNOWN:
        chosen = tuple(name for name in left if belongs(name))
        if chosen:
            left = [name for name in left if name not in chosen]
            made.append(Group(title, y, chosen, log, f"{title} over the optimizer steps: {', '.join(chosen[:6])}."))
    for name in left:
        made.append(Group(name, name, (name,), False, f"{name} over the optimizer steps."))
    return made[:MOST_CHARTS]


def rows_of_run(group: Group, series: Mapping[str, Series]) -> list[dict[str, Any]]:
    """The rows of one run's chart, a line per series."""
    rows: list[dict[str, Any]] = []
    for name in group.names:
        thin = series[name].thinned(POINTS_OF_A_RUN)
        rows += [
            {"x": int(step), "y": _short(value), "arm": name}
            for step, value in zip(thin.steps, thin.values, strict=True)
        ]
    return rows


def rows_of_arm(arm: str, found: Sequence[Series]) -> list[dict[str, Any]]:
    """The median over seeds along the steps, with the lowest and highest value as a band.

    Within a stretch of steps each run gives its mean to the median and its extremes to the band, so no peak is lost.
    Values that are not finite are left out.

    Args:
        arm: Its label.
        found: The same curve of each of its runs.
    """
    found = [each for each in found if len(each.steps)]
    if not found:
        return []
    first, last = min(int(each.steps[0]) for each in found), max(int(each.steps[-1]) for each in found)
    edges = np.unique(np.linspace(first, last + 1, min(POINTS_OF_AN_ARM, last - first + 1) + 1).astype(np.int64))
    rows = []
    for start, end in itertools.pairwise(edges.tolist()):
        middles, lows, highs = [], [], []
        for each in found:
            part = each.values[np.searchsorted(each.steps, start) : np.searchsorted(each.steps, end)]
            part = part[np.isfinite(part)]
            if len(part):
                middles.append(part.mean())
                lows.append(part.min())
                highs.append(part.max())
        if middles:
            # A stretch of one step stands at that step, a longer one at its middle.
            row = {
                "x": start if end - start == 1 else (start + end - 1) / 2,
                "y": _short(np.median(middles)),
                "arm": arm,
            }
            if min(lows) < max(highs):
                row |= {"low": _short(min(lows)), "high": _short(max(highs))}
            rows.append(row)
    return rows


def _short(value: Any) -> float:
    """Six significant digits: a chart shows fewer, and a page of them stays small."""
    return float(f"{float(value):.6g}")

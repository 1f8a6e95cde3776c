"""The figures of an experiment, each drawn from its runs: the rows of the chart, then a Vega-Lite specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradkit.compare.curves import rows_of_arm
from gradkit.experiment.results import Results
from gradkit.experiment.schema import Arm, Figure, matching
from gradkit.report import charts
from gradkit.runs.folders import Run
from gradkit.runs.series import Series, read_series


def draw(results: Results, *, width: int | str = charts.WIDTH) -> dict[str, charts.Specification]:
    """Figure name to specification; a figure whose runs all failed is left out.

    Args:
        results: From `gradkit.experiment.results.collect`.
        width: In pixels, or `container` for a page.
    """
    cache: dict[str, dict[str, Series]] = {}

    def series(run: Run) -> dict[str, Series]:
        key = str(run.folder)
        if key not in cache:
            cache[key] = read_series(run.folder)
        return cache[key]

    drawn = {}
    for figure in results.experiment.figures:
        arms = matching(results.experiment.arms, figure.arms, f"figure {figure.name}")
        if figure.curve is not None:
            rows: list[dict[str, Any]] = []
            for arm in arms:
                found = [series(run) for run in results.runs[arm.name].values()]
                rows += rows_of_arm(arm.name, [each[figure.curve] for each in found if figure.curve in each])
            made = charts.curves(
                rows,
                title=figure.title,
                y=figure.y or figure.curve,
                log=figure.log,
                width=width,
                description=figure.alt,
            )
        else:
            rows = _metric_rows(results, figure, arms)
            made = charts.values_by_arm(
                rows,
                title=figure.title,
                y=figure.y or str(figure.metric),
                x=figure.x or "arm",
                log=figure.log,
                log_x=figure.log_x,
                width=width,
                description=figure.alt,
            )
        if rows:
            drawn[figure.name] = made
    return drawn


def _metric_rows(results: Results, figure: Figure, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    metric = str(figure.metric)
    rows: list[dict[str, Any]] = []
    for arm in arms:
        place, label = _place(arm, figure)
        for seed, row in results.measured[arm.name].items():
            if metric in row:
                rows.append({"x": place, "y": row[metric], "arm": label, "run": f"seed {seed}"})
        made, _ = results.summary(arm.name, metric)
        if made.n:
            rows.append({"x": place, "mean": made.mean, "low": made.low, "high": made.high, "arm": label})
    return rows


def _place(arm: Arm, figure: Figure) -> tuple[float | str, str]:
    if figure.x is None:
        return arm.name, arm.axes["arm"]
    others = [label for axis, label in arm.axes.items() if axis != figure.x]
    text = arm.axes[figure.x]
    try:
        return float(text), "/".join(others)
    except ValueError:
        return text, "/".join(others)


def table(results: Results) -> Mapping[str, Mapping[str, str]]:
    """Arm to metric to `mean ± half of the 95 % interval`, as text."""
    from gradkit.compare.text import with_interval

    made: dict[str, dict[str, str]] = {}
    for arm in results.experiment.arms:
        cells = made.setdefault(arm.name, {})
        for metric in results.experiment.metrics:
            found, non_finite = results.summary(arm.name, metric)
            text = with_interval(found)
            if non_finite:
                text += f"{' and ' if text else ''}{non_finite} non-finite"
            if text:
                cells[metric] = text
    return made

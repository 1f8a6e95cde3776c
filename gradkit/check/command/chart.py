"""The chart of a sweep: relative error of each gradient over the size of the logits; needs Altair."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradkit.check.engine.result import shown
from gradkit.errors import ConfigError
from gradkit.report import charts
from gradkit.report.html import Chart, cut, grid, render
from gradkit.store import write_atomically

SMALLEST = 1e-17
"""Errors of zero are drawn here, below any unit round-off."""

TITLE = "Error of gradients against differences"


def write_chart(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the rows of a sweep.

    Args:
        rows: One per case and method, with `scale`, `max_rel`, `target`, `dtype`, `method` and `verdict`.
        path: Ends in .svg, .png or .html; the HTML carries all it needs and opens without a network.

    Raises:
        ConfigError: The file cannot be written.
    """
    if path.suffix == ".html":
        data = _page(rows).encode("utf-8", "backslashreplace")
    elif path.suffix == ".png":
        data = charts.png(_every_dtype(rows))
    else:
        data = charts.svg(_every_dtype(rows)).encode("utf-8")
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ConfigError(f"chart: cannot write {str(path)!r}: {error.strerror}.") from error


def _page(rows: Sequence[dict[str, Any]]) -> str:
    """One chart for each dtype, and the numbers below."""
    counts = Counter(row["verdict"] for row in rows)
    drawn = [
        Chart(f"chart-{number}", f"Largest relative error in {dtype}, one line per gradient.", _one_dtype(rows, dtype))
        for number, dtype in enumerate(_dtypes(rows))
    ]
    names = ("target", "dtype", "scale", "method", "verdict", "max_rel", "bound", "reason")
    table = grid(
        "The worst input of each method",
        [name.replace("_", " ") for name in names],
        [[shown(row[name]) for name in names] for row in rows],
        id="verdicts",
        heading="Verdicts",
    )
    return render(
        "check.html.j2",
        title=TITLE,
        summary=[(verdict, f"{count:,}") for verdict, count in counts.items()],
        charts=drawn,
        tables=[table],
        sections=[("errors", "Errors"), ("verdicts", "Verdicts")],
    )


def _dtypes(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["dtype"] for row in rows if row["max_rel"] is not None))


def _one_dtype(rows: Sequence[dict[str, Any]], dtype: str) -> charts.Specification:
    import altair as alt

    chart = _layers([row for row in rows if row["dtype"] == dtype])
    chart = chart.add_params(alt.selection_interval(bind="scales", name="zoom"))
    made: charts.Specification = chart.properties(title=dtype, width="container", height=charts.HEIGHT).to_dict()
    return made


def _every_dtype(rows: Sequence[dict[str, Any]]) -> charts.Specification:
    chart = _layers(rows).properties(width=360, height=220).facet("dtype:N", columns=2)
    made: charts.Specification = chart.properties(title=f"{TITLE}; a cross is inf or nan").to_dict()
    return made


def _layers(rows: Sequence[dict[str, Any]]) -> Any:
    import altair as alt

    drawn = [_row(row) for row in rows if row["max_rel"] is not None]
    base = alt.Chart(alt.InlineData(values=drawn)).encode(
        x=alt.X("scale:Q", title="scale of the logits, |z|"),
        color=alt.Color("series:N", title="gradient", scale=alt.Scale(range=list(charts.PALETTE))),
    )
    tooltip = ["target:N", "dtype:N", "method:N", "scale:Q", "error:Q", "verdict:N", "reason:N"]
    lines = (
        base.transform_filter("datum.finite")
        .mark_line(point=True)
        .encode(y=alt.Y("error:Q", scale=alt.Scale(type="log"), title="largest relative error"), tooltip=tooltip)
    )
    # Where there is no number there is a cross at the top: the point at which a form dies.
    crosses = (
        base.transform_filter("!datum.finite")
        .mark_point(shape="cross", size=90, angle=45, filled=True)
        .encode(y=alt.value(0), tooltip=tooltip)
    )
    seen = {row["finite"] for row in drawn}
    return alt.layer(*(layer for layer, finite in ((lines, True), (crosses, False)) if finite in seen))


def _row(row: dict[str, Any]) -> dict[str, Any]:
    error = float(row["max_rel"])
    finite = math.isfinite(error)
    words = {name: cut(row[name]) for name in ("target", "dtype", "method", "verdict", "reason")}
    return {
        **words,
        "scale": row["scale"],
        "series": f"{words['target']}, {words['method']}",
        "finite": finite,
        "error": max(error, SMALLEST) if finite else None,
    }

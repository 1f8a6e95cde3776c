"""The chart of a sweep: relative error of each gradient over the size of the logits; needs Altair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradkit.errors import ConfigError

SMALLEST = 1e-17
"""Errors of zero are drawn here, below any unit round-off."""


def write_chart(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the rows of a sweep.

    Args:
        rows: One per case and method, with `scale`, `max_rel`, `target`, `dtype`, `method` and `verdict`.
        path: Ends in .svg, .png or .html; the HTML carries all it needs and opens without a network.

    Raises:
        ConfigError: The file cannot be written.
    """
    import altair as alt

    drawn = [_row(row) for row in rows if row["max_rel"] is not None]
    base = alt.Chart(alt.InlineData(values=drawn)).encode(
        x=alt.X("scale:Q", title="scale of the logits, |z|"),
        color=alt.Color("series:N", title="gradient"),
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
    chart = alt.layer(lines, crosses).properties(width=360, height=220).facet("dtype:N", columns=2)
    chart = chart.properties(title="Error of gradients against differences; a cross is inf or nan")
    try:
        if path.suffix == ".html":
            chart.save(str(path), inline=True)
        else:
            chart.save(str(path))
    except OSError as error:
        raise ConfigError(f"chart: cannot write {str(path)!r}: {error.strerror}.") from error


def _row(row: dict[str, Any]) -> dict[str, Any]:
    error = float(row["max_rel"])
    finite = math.isfinite(error)
    kept = {name: row[name] for name in ("target", "dtype", "method", "scale", "verdict", "reason")}
    return {
        **kept,
        "series": f"{row['target']}, {row['method']}",
        "finite": finite,
        "error": max(error, SMALLEST) if finite else None,
    }

"""Vega-Lite charts by Altair: one specification gives the interactive chart of a page, the PNG and the SVG."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradkit.errors import ConfigError

WIDTH, HEIGHT = 560, 260
"""Size of a chart in pixels where it is not told otherwise."""
PALETTE = ("#3b6fb6", "#d1495b", "#2f9e77", "#e39a2d", "#7a5bb5", "#4aa3c7", "#8a6d3b", "#c45ab3", "#6b7280", "#99b433")
"""Told apart on white and on near-black and by the common colour blindnesses; lines are dashed as well."""
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4])

Specification = dict[str, Any]
"""A Vega-Lite specification as plain data."""


def check_installed(what: str) -> None:
    """Refuse a report or figure when its packages are missing.

    Raises:
        ConfigError: Says what to install.
    """
    if any(importlib.util.find_spec(name) is None for name in ("altair", "vl_convert")):
        raise ConfigError(f"{what} needs the packages altair and vl-convert-python; run: pip install gradkit[report]")


def curves(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    y: str,
    x: str = "optimizer step",
    log: bool = False,
    width: int | str = WIDTH,
    height: int = HEIGHT,
    description: str = "",
) -> Specification:
    """Lines over steps, one per arm, with a band where seeds differ; drag to move, wheel to zoom.

    Args:
        rows: With `x`, `y` and `arm`, and with `low` and `high` for the band. Values that are not finite are left
            out; on a logarithmic axis those not positive too.
        title: Above the chart.
        y: Title of the vertical axis.
        x: Title of the horizontal axis.
        log: Logarithmic vertical axis.
        width: In pixels, or `container` to fill the page.
        height: In pixels.
        description: What the chart shows in one sentence, for those who hear the page.
    """
    import altair as alt

    x, y = _literal(x), _literal(y)
    kept = [dict(row) for row in rows if _drawable(row["y"], log)]
    arms = list(dict.fromkeys(row["arm"] for row in kept))
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
    base = alt.Chart(alt.InlineData(values=kept)).encode(
        x=alt.X("x:Q", title=x, axis=alt.Axis(format="~s"), scale=alt.Scale(nice=False)),
        color=_colour(arms),
    )
    line = base.mark_line(strokeWidth=1.7, interpolate="linear").encode(
        y=alt.Y("y:Q", title=y, scale=scale),
        # The same legend as the colour's, so that the two become one that shows both.
        strokeDash=alt.StrokeDash(
            "arm:N",
            title=None,
            scale=alt.Scale(domain=arms, range=[list(DASHES[i % len(DASHES)]) for i in range(len(arms))]),
            legend=_legend(shown=len(arms) > 1),
        ),
        tooltip=[alt.Tooltip("arm:N"), alt.Tooltip("x:Q", title=x), alt.Tooltip("y:Q", title=y, format=".5~g")],
    )
    layers = [line.add_params(alt.selection_interval(bind="scales", name="zoom"))]
    banded = [row for row in kept if row.get("low") is not None and _drawable(row["low"], log)]
    if banded:
        band = (
            alt.Chart(alt.InlineData(values=banded))
            .mark_area(opacity=0.16)
            .encode(x="x:Q", y=alt.Y("low:Q", scale=scale), y2="high:Q", color=_colour(arms))
        )
        layers.insert(0, band)
    if len(kept) <= 60 * max(1, len(arms)):
        layers.append(line.mark_point(size=14, filled=True).encode(strokeDash=alt.value([1, 0])))
    return _finished(alt.layer(*layers), title, width, height, description)


def values_by_arm(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    y: str,
    x: str = "arm",
    log: bool = False,
    log_x: bool = False,
    width: int | str = WIDTH,
    height: int = HEIGHT,
    description: str = "",
) -> Specification:
    """One point per run and the mean of each arm with its interval.

    Args:
        rows: With `x` (an arm's name, or a number such as a learning rate), `y`, `arm`, `run`; and one row per mean
            with `mean`, `low`, `high` instead of `y`.
        title: Above the chart.
        y: Title of the value's axis.
        x: Title of the other axis.
        log: Logarithmic value axis.
        log_x: Logarithmic other axis, when `x` are numbers.
        width: In pixels, or `container`.
        height: In pixels.
        description: What the chart shows in one sentence.
    """
    import altair as alt

    x, y = _literal(x), _literal(y)
    runs = [dict(row) for row in rows if "y" in row and _drawable(row["y"], log)]
    means = [dict(row) for row in rows if "mean" in row and _drawable(row["mean"], log)]
    for row in means:
        if log and row.get("low") is not None and row["low"] <= 0:
            row["low"] = None  # an interval that reaches below zero has no place on a logarithmic axis
    arms = list(dict.fromkeys(row["arm"] for row in [*means, *runs]))
    numeric = all(isinstance(row["x"], (int, float)) for row in [*runs, *means])
    order = list(dict.fromkeys(row["x"] for row in [*means, *runs]))
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
    horizontal: Any = (
        alt.X("x:Q", title=x, scale=alt.Scale(type="log" if log_x else "linear", nice=False, padding=16))
        if numeric
        else alt.X("x:N", title=x if x != "arm" else None, sort=order, axis=alt.Axis(labelAngle=-30, labelLimit=220))
    )
    value = alt.Y("mean:Q", title=y, scale=scale)
    tips = [alt.Tooltip(f"{name}:{kind}") for name, kind in (("arm", "N"), ("x", "Q" if numeric else "N"))]
    mean = alt.Chart(alt.InlineData(values=means)).encode(x=horizontal, color=_colour(arms, shown=numeric))
    spread = mean.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=y, scale=scale), y2="high:Q")
    middle = (mean.mark_line(strokeWidth=1.5, point=alt.OverlayMarkDef(size=60, shape="diamond")) if numeric else
              mean.mark_point(size=70, shape="diamond", filled=True))  # fmt: skip
    middle = middle.encode(
        y=value, tooltip=[*tips, *(alt.Tooltip(f"{name}:Q", format=".4~g") for name in ("mean", "low", "high"))]
    )
    cloud = (
        alt.Chart(alt.InlineData(values=runs))
        .mark_circle(size=28, opacity=0.45)
        .encode(
            x=horizontal,
            y=alt.Y("y:Q", title=y, scale=scale),
            color=_colour(arms, shown=numeric),
            tooltip=[*tips, alt.Tooltip("run:N"), alt.Tooltip("y:Q", title=y, format=".5~g")],
        )
    )
    if numeric:
        cloud = cloud.add_params(alt.selection_interval(bind="scales", name="zoom"))
    rules = spread.transform_filter("isValid(datum.low)")
    return _finished(alt.layer(rules, cloud, middle), title, width, height, description)


def _colour(arms: Sequence[str], *, shown: bool = True) -> Any:
    import altair as alt

    domain = list(arms)
    return alt.Color(
        "arm:N",
        title=None,
        scale=alt.Scale(domain=domain, range=[PALETTE[i % len(PALETTE)] for i in range(len(domain))]),
        legend=_legend(shown=shown and len(domain) > 1),
    )


def _legend(*, shown: bool) -> Any:
    import altair as alt

    return (
        alt.Legend(
            orient="bottom",
            columns=2,
            labelLimit=320,
            symbolLimit=40,
            symbolOpacity=1,
            symbolType="stroke",
            symbolStrokeWidth=3,
        )
        if shown
        else None
    )


def _literal(title: str) -> str:
    """The title without backslashes: Vega-Lite 6.4 puts titles into expressions, which read escapes anew."""
    return title.replace("\\", "\N{SET MINUS}")


def _drawable(value: Any, log: bool) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and (not log or value > 0)


def _finished(chart: Any, title: str, width: int | str, height: int, description: str) -> Specification:
    made = chart.properties(
        title=_literal(title), width=width, height=height, description=_literal(description or title)
    )
    specification: Specification = made.to_dict(validate=False)
    return specification


def png(specification: Specification, scale: float = 1.6) -> bytes:
    """The chart as a PNG image on white.

    Args:
        specification: From this module; `width` in pixels.
        scale: Pixels per unit.
    """
    import vl_convert

    image: bytes = vl_convert.vegalite_to_png(_on_white(specification), scale=scale)
    return image


def svg(specification: Specification) -> str:
    """The chart as an SVG image on white."""
    import vl_convert

    image: str = vl_convert.vegalite_to_svg(_on_white(specification))
    return image


def _on_white(specification: Specification) -> Specification:
    # Fainter lines and larger letters than Vega's own; a page sets the same through its own configuration.
    axis = {
        "gridColor": "#e6e9ee",
        "domainColor": "#8b94a3",
        "tickColor": "#c3cad4",
        "labelFontSize": 11,
        "titleFontSize": 12,
    }
    style = {"view": {"stroke": None}, "axis": axis, "title": {"anchor": "start", "fontSize": 14}}
    return {**specification, "background": "white", "config": style}

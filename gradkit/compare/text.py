"""The comparison a person reads in a terminal, by Rich."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gradkit.compare.arms import ABSENT
from gradkit.compare.comparison import Comparison, Row, direction
from gradkit.compare.statistics import Interval
from gradkit.config.wording import counted, quoted
from gradkit.runs.folders import RUNNING

MOST_ARMS_ACROSS = 6
"""Arms a table of settings or findings has as columns; more would not fit a terminal, so they become rows."""
MOST_ARMS_DOWN = 20
"""Arms a table has as rows; of more only the reference and the best are shown."""
MOST_NAMED = 12
"""Folders or runs listed one by one before the rest is counted."""

_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "cyan"}


def parts(comparison: Comparison, *, best: int = 3) -> Iterator[RenderableType]:
    """The comparison as Rich renderables, top to bottom.

    Args:
        comparison: What to show.
        best: How many best runs of each shown metric to list.
    """
    yield _heading(comparison)
    if comparison.differing:
        yield Text()
        yield _settings(comparison)
    for metric in comparison.shown:
        yield Text()
        yield _metric(comparison, metric)
    if comparison.runs:
        yield Text()
        yield _findings(comparison)
    if best and len(comparison.runs) > 1:
        yield Text()
        yield _best(comparison, best)
    notes = list(_notes(comparison))
    if notes:
        yield Text()
        yield from notes


def _heading(comparison: Comparison) -> Text:
    runs, arms = len(comparison.runs), len(comparison.arms)
    text = Text(f"{counted(runs, 'completed run')} in {counted(arms, 'arm')}", style="bold")
    if comparison.by:
        text.append(f" by {', '.join(comparison.by)}")
    if arms > 1:
        text.append_text(name(f"; reference: {comparison.reference}"))
    return text


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", show_edge=False, pad_edge=False)


def _settings(comparison: Comparison) -> Table:
    """What differs: keys down and arms across, or the other way round when there are many arms."""
    keys = comparison.by or comparison.differing
    table = _table("What differs")
    if len(comparison.arms) <= MOST_ARMS_ACROSS:
        table.add_column("key")
        for arm in comparison.arms:
            table.add_column(name(arm.label), overflow="fold")
        for key in keys:
            table.add_row(name(key), *(_value(arm.settings.get(key, ABSENT)) for arm in comparison.arms))
        table.add_row("seeds", *(str(len(arm.runs)) for arm in comparison.arms), style="dim")
        return table
    if len(comparison.arms) > MOST_ARMS_DOWN:
        table.add_column("key")
        table.add_column("values", justify="right")
        for key in keys:
            seen = {str(arm.settings.get(key, ABSENT)) for arm in comparison.arms}
            table.add_row(name(key), f"{len(seen):,} different")
        return table
    keys_used = {key for arm in comparison.arms for key in arm.settings}
    table.add_column("arm", overflow="fold")
    table.add_column("runs", justify="right")
    for arm in comparison.arms:
        table.add_row(name(arm.label), str(len(arm.runs)))
    table.caption = f"differing keys: {', '.join(sorted(keys_used))}"
    return table


def _value(value: object) -> Text:
    return name(value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else json.dumps(value))


def _metric(comparison: Comparison, metric: str) -> Table:
    sign = direction(metric)
    better = {1: "higher is better", -1: "lower is better", 0: ""}[sign]
    table = _table(f"{name(metric).plain}{f' ({better})' if better else ''}")
    table.add_column("arm", overflow="fold")
    table.add_column("n", justify="right")
    table.add_column(f"mean, {comparison.confidence:.0%} interval", justify="right")
    if len(comparison.arms) > 1:
        table.add_column("paired difference", justify="right")
        table.add_column("better" if sign else "higher", justify="right")
    rows = [row for row in comparison.rows if row.metric == metric]
    for row in _first(rows, sign, comparison.reference):
        table.add_row(*_cells(comparison, row, sign))
    if len(rows) > MOST_ARMS_DOWN:
        which = "best" if sign else "first"
        table.caption = f"the reference and the {which} of {len(rows):,} arms; --json lists all, --by groups them"
    return table


def _first(rows: Sequence[Row], sign: int, reference: str) -> list[Row]:
    """All rows, or of very many the reference and the best by their mean."""
    if len(rows) <= MOST_ARMS_DOWN:
        return list(rows)
    ranked = sorted(rows, key=lambda row: -sign * row.summary.mean if row.summary.n else math.inf) if sign else rows
    others = [row for row in ranked if row.arm != reference][: MOST_ARMS_DOWN - 1]
    return [*(row for row in rows if row.arm == reference), *others]


def _cells(comparison: Comparison, row: Row, sign: int) -> list[Text | str]:
    cells: list[Text | str] = [name(row.arm), str(row.summary.n + row.non_finite)]
    mean = Text(with_interval(row.summary))
    if row.non_finite:
        mean.append(f"{' and ' if row.summary.n else ''}{row.non_finite} non-finite", style="bold red")
    cells.append(mean)
    if len(comparison.arms) == 1:
        return cells
    if row.against is None:
        return [*cells, "reference", ""]
    found = row.against
    clear = found.difference.low is not None and found.difference.low * (found.difference.high or 0) > 0
    good = sign * found.difference.mean > 0
    style = ("green" if good else "red") if clear and sign else ""
    wins = found.lower if sign < 0 else found.higher
    return [
        *cells,
        Text(with_interval(found.difference, signed), style=style),
        f"{wins} of {found.n}" if found.n else "no pairs",
    ]


def _findings(comparison: Comparison) -> RenderableType:
    if not comparison.findings:
        return Text("No findings in any of these runs.", style="green")
    table = _table("Findings: runs with them, and steps that showed them")
    counts = {arm.label: len(arm.runs) for arm in comparison.arms}
    if len(comparison.arms) <= MOST_ARMS_ACROSS:
        table.add_column("rule")
        for label in counts:
            table.add_column(name(label), overflow="fold", justify="right")
        for row in comparison.findings:
            rule = Text(name(row.rule).plain, style=_STYLES.get(row.severity, "")).append_text(name(f" {row.name}"))
            table.add_row(
                rule,
                *(
                    f"{row.runs[label]} of {counts[label]} ({row.steps[label]:,})" if label in row.runs else "-"
                    for label in counts
                ),
            )
        return table
    table.add_column("rule")
    table.add_column("arm", overflow="fold")
    table.add_column("runs", justify="right")
    table.add_column("steps", justify="right")
    for row in comparison.findings:
        for label in row.runs:
            rule = Text(name(row.rule).plain, style=_STYLES.get(row.severity, "")).append_text(name(f" {row.name}"))
            table.add_row(rule, name(label), f"{row.runs[label]} of {counts[label]}", f"{row.steps[label]:,}")
    return table


def _best(comparison: Comparison, count: int) -> RenderableType:
    table = _table("Best runs")
    for heading in ("metric", "value", "run", "arm"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "value" else "left")
    for metric in comparison.shown:
        for place, (run, value) in enumerate(comparison.best(metric, count)):
            table.add_row(
                name(metric if place == 0 else ""), shown(value), name(run.label), name(comparison.arm_of(run))
            )
    return table if table.row_count else Text("None of the shown metrics has a better direction.", style="dim")


def _notes(comparison: Comparison) -> Iterator[Text]:
    waiting = " (still running, or killed)"
    yield from _listed(
        "not completed",
        [f"{run.label}: {run.status}{waiting if run.status == RUNNING else ''}{_why(run.manifest.get('error'))}"
         for run in comparison.unfinished],
    )  # fmt: skip
    yield from _listed("repeated by a later run", [run.label for run in comparison.repeated])
    yield from _listed("skipped", [f"{each.path}: {each.reason}" for each in comparison.skipped])


def _why(error: object) -> str:
    return f", {quoted(error)}" if error else ""


def _listed(what: str, entries: Sequence[str]) -> Iterator[Text]:
    if not entries:
        return
    yield Text(f"{what}: {len(entries)}", style="bold yellow")
    for entry in entries[:MOST_NAMED]:
        yield Text("  ").append_text(name(entry, 300))
    if len(entries) > MOST_NAMED:
        yield Text(f"  and {len(entries) - MOST_NAMED} more; --json lists all")


def name(text: str, limit: int = 120) -> Text:
    r"""A name from a run folder as plain text: no markup, no control characters, cut in the middle when it is long.

    Example:
        >>> name("[red]a\x1b[31m").plain
        '[red]a\\x1b[31m'
    """
    if len(text) > limit:
        text = f"{text[: limit // 2 - 2]}...{text[-(limit // 2 - 2) :]}"
    return Text("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text))


def shown(value: float) -> str:
    """A number in four digits.

    Example:
        >>> shown(0.123456), shown(1234567.0), shown(12.0)
        ('0.1235', '1.235e+06', '12')
    """
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def signed(value: float) -> str:
    """A number in four digits with its sign."""
    return f"{value:+.3g}" if value else "0"


def with_interval(found: Interval, form: Callable[[float], str] = shown) -> str:
    """A mean and its interval: plus-minus half the width, or both ends where the interval is not symmetric.

    Example:
        >>> with_interval(Interval(3, 2.0, 1.5, 2.5, "t")), with_interval(Interval(1, 2.0))
        ('2 ± 0.5', '2')
    """
    if found.n == 0:
        return ""
    if found.method == "bootstrap" and found.low is not None and found.high is not None:
        return f"{form(found.mean)} ({form(found.low)} to {form(found.high)})"
    return form(found.mean) + (f" ± {found.half:.2g}" if found.half is not None else "")

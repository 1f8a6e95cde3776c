"""The HTML pages of one run and of a comparison, built from run folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gradkit.compare.arms import ABSENT, Arm
from gradkit.compare.comparison import Comparison, Row, direction
from gradkit.compare.curves import Group, groups, rows_of_arm, rows_of_run
from gradkit.compare.text import shown, signed, with_interval
from gradkit.config.wording import counted
from gradkit.report.charts import PALETTE, curves
from gradkit.report.html import Chart, Grid, cards, cut, grid, plain_rows, render
from gradkit.runs.folders import Run, flattened
from gradkit.runs.series import Series, read_series

MOST_ARMS_DRAWN = len(PALETTE)
MOST_RUNS_DRAWN = 60
"""Runs whose events a comparison's page reads; those of more than that take long and say little more."""
LONGEST_LABEL = 60


def run_page(run: Run) -> str:
    """The page of one run.

    Raises:
        ConfigError: The run has curves and vl-convert is not installed.
    """
    manifest = run.manifest
    series = read_series(run.folder)
    drawn = list(_run_charts(series))
    shown_cards, left_out = cards(run.findings)
    watch = manifest.get("watch")
    tables = [_metric_table(run)] if run.metrics else []
    config = [(key, json.dumps(value, ensure_ascii=False, default=str)) for key, value in run.config.items()]
    lists: list[tuple[str, str, list[tuple[str, str]]]] = [
        ("config", "Configuration", [(cut(key), cut(value)) for key, value in config]),
        ("environment", "Environment", plain_rows(dict(flattened(_mapping(manifest, "environment"))))),
        ("versions", "Versions", plain_rows(_mapping(manifest, "versions"))),
        ("data", "Data", plain_rows(_mapping(manifest, "data"))),
    ]
    lists = [each for each in lists if each[2]]
    longest = max((len(each.steps) for each in series.values()), default=0)
    lost = {name: each.non_finite for name, each in series.items() if each.non_finite}
    sections = [("findings", "Findings")] + ([("curves", "Curves")] if drawn else [])
    return render(
        "run.html.j2",
        title=str(manifest.get("name") or run.folder.name),
        subtitle=cut(str(run.folder)),
        status=run.status if run.status in ("completed", "failed", "interrupted", "running") else "",
        summary=list(_summary(run)),
        watched=_watched(watch) if isinstance(watch, dict) else "This run was not watched.",
        cards=shown_cards,
        left_out=left_out,
        charts=drawn,
        thinned=_thinned(longest) + _lost(lost),
        tables=tables,
        lists=lists,
        sections=[*sections, *((each.id, each.heading) for each in tables), *((id, name) for id, name, _ in lists)],
    )


def _mapping(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = manifest.get(name)
    return value if isinstance(value, dict) else {}


def _summary(run: Run) -> Iterator[tuple[str, str]]:
    counts = {word: sum(each.get("severity") == word for each in run.findings) for word in ("error", "warning", "note")}
    yield (
        "findings",
        ", ".join(counted(count, word) for word, count in counts.items() if count) or "none",
    )
    config, metrics = run.config, run.metrics
    for key in ("model.name", "data.name", "optimizer.name", "fault.name"):
        if key in config:
            yield key.removesuffix(".name"), cut(str(config[key]), 60)
    for name in ("steps", "test.accuracy", "test.log_loss", "train_seconds"):
        if name in metrics:
            yield name.replace("_", " "), shown(metrics[name]) if name != "steps" else f"{metrics[name]:,.0f}"
    yield "seed", cut(str(run.seed), 40)
    for name in ("started", "stopped_because"):
        if run.manifest.get(name):
            yield name.replace("_", " "), cut(str(run.manifest[name]), 60)


def _watched(watch: Mapping[str, Any]) -> str:
    told = [f"{key.replace('_', ' ')} {value}" for key, value in watch.items() if isinstance(value, (int, float))]
    rules = watch.get("rules")
    if isinstance(rules, list):
        told.append(f"{len(rules)} rules active")
    return "Watched: " + cut(", ".join(told), 400) + "."


def _metric_table(run: Run) -> Grid:
    metrics = run.manifest.get("metrics")
    if isinstance(metrics, dict) and metrics and all(isinstance(each, dict) for each in metrics.values()):
        names = list(dict.fromkeys(name for each in metrics.values() for name in each))
        rows = [[name.replace("_", " "), *(_cell(run, split, name) for split in metrics)] for name in names]
        return grid("Final metrics", ["metric", *metrics], rows, id="metrics", heading="Metrics")
    rows = [[name, shown(value)] for name, value in run.metrics.items()]
    return grid("Final metrics", ["metric", "value"], rows, id="metrics", heading="Metrics")


def _cell(run: Run, split: str, name: str) -> str:
    value = run.metrics.get(f"{split}.{name}")
    return "" if value is None else shown(value)


def _run_charts(series: Mapping[str, Series]) -> Iterator[Chart]:
    for number, group in enumerate(groups(name for name, each in series.items() if len(each.steps) > 1)):
        rows = rows_of_run(group, series)
        yield from _chart(number, group, rows)


def _chart(number: int, group: Group, rows: Sequence[Mapping[str, Any]]) -> Iterator[Chart]:
    rows = [{**row, "arm": cut(str(row["arm"]), LONGEST_LABEL)} for row in rows]
    if not rows:
        return
    log = group.log and any(row["y"] > 0 for row in rows)
    alt, title = cut(group.alt, 300), cut(group.title, LONGEST_LABEL)
    specification = curves(
        rows, title=title, y=cut(group.y, 40), log=log, width="container", height=220, description=alt
    )
    yield Chart(f"chart-{number}", alt, specification)


def _thinned(longest: int) -> str:
    return (
        f"Up to {longest:,} points per curve were recorded. Longer curves are thinned: of every stretch of steps the"
        " lowest and the highest value are kept, so a peak of one step stays."
    )


def _lost(lost: Mapping[str, int]) -> str:
    if not lost:
        return ""
    told = ", ".join(f"{cut(name, 40)} {count:,}" for name, count in [*lost.items()][:10])
    return f" Values that were not finite and cannot be drawn: {told}."


def comparison_page(comparison: Comparison, *, best: int = 3) -> str:
    """The page of a comparison.

    Args:
        comparison: From `gradkit.compare.compare`.
        best: Best runs per metric.

    Raises:
        ConfigError: The runs have curves and vl-convert is not installed.
    """
    drawn, thinned = _arm_charts(comparison)
    settings = [_settings(comparison)] if comparison.differing else []
    after = [*_best(comparison, best), *_left_out(comparison)]
    first: dict[str, Mapping[str, Any]] = {}
    for run in comparison.runs:
        for finding in run.findings:
            first.setdefault(str(finding.get("rule")), finding)
    shown_cards, left_out = cards([*first.values()])
    runs, arms = len(comparison.runs), len(comparison.arms)
    summary = [
        ("completed runs", f"{runs:,}"),
        ("arms", f"{arms:,}"),
        ("reference", cut(comparison.reference, LONGEST_LABEL)),
        ("not completed", f"{len(comparison.unfinished):,}"),
        ("skipped folders", f"{len(comparison.skipped):,}"),
    ]
    rest = [name for name in comparison.metrics if name not in comparison.shown]
    sections = [(each.id, each.heading) for each in settings] + [("metrics", "Metrics")]
    sections += [("curves", "Curves")] * bool(drawn) + [("findings", "Findings")] + [(e.id, e.heading) for e in after]
    return render(
        "comparison.html.j2",
        title=f"{counted(runs, 'run')} in {counted(arms, 'arm')}",
        summary=summary,
        settings=settings,
        metrics=[_metric(comparison, name) for name in comparison.shown],
        rest=[_metric(comparison, name) for name in rest] if len(rest) * arms <= 2_000 else [],
        method=f"Mean ± half of the {comparison.confidence:.0%} interval over seeds (Student's t; from 20 runs on both"
        " ends of a BCa bootstrap). Differences are paired: by seed, and with --by by all other differing keys.",
        charts=drawn,
        thinned=thinned,
        finding_tables=_findings(comparison),
        cards=shown_cards,
        left_out=left_out,
        after=after,
        sections=sections,
    )


def _settings(comparison: Comparison) -> Grid:
    keys = comparison.by or comparison.differing
    rows = []
    for arm in comparison.arms:
        values = [arm.settings.get(key, ABSENT) for key in keys]
        texts = [value if isinstance(value, str) else json.dumps(value, default=str) for value in values]
        rows.append([cut(arm.label, LONGEST_LABEL), str(len(arm.runs)), *texts])
    return grid("What differs", ["arm", "runs", *keys], rows, id="differences", heading="What differs")


def _metric(comparison: Comparison, metric: str) -> Grid:
    sign = direction(metric)
    better = {1: ", higher is better", -1: ", lower is better", 0: ""}[sign]
    rows = [_metric_cells(row, sign) for row in comparison.rows if row.metric == metric]
    if len(comparison.arms) == 1:
        rows = [row[:3] for row in rows]
    headings = ["arm", "runs", "mean", "paired difference", "better" if sign else "higher"][
        : len(rows[0]) if rows else 3
    ]
    return grid(f"{metric}{better}", headings, rows)


def _metric_cells(row: Row, sign: int) -> list[str]:
    mean = with_interval(row.summary)
    if row.non_finite:
        mean += f"{' and ' if mean else ''}{row.non_finite} non-finite"
    cells = [cut(row.arm, LONGEST_LABEL), str(row.summary.n + row.non_finite), mean]
    if row.against is None:
        return [*cells, "reference", ""]
    found = row.against
    wins = found.lower if sign < 0 else found.higher
    return [*cells, with_interval(found.difference, signed), f"{wins} of {found.n}" if found.n else "no pairs"]


def _findings(comparison: Comparison) -> list[Grid]:
    if not comparison.findings:
        return []
    counts = {arm.label: len(arm.runs) for arm in comparison.arms}
    rows = [
        [f"{row.rule} {row.name}", label, f"{row.runs[label]} of {counts[label]}", f"{row.steps[label]:,}"]
        for row in comparison.findings
        for label in row.runs
    ]
    return [grid("Findings by arm", ["rule", "arm", "runs", "steps that showed it"], rows)]


def _best(comparison: Comparison, count: int) -> list[Grid]:
    rows = [
        [
            metric,
            str(place + 1),
            shown(value),
            cut(run.label, LONGEST_LABEL),
            cut(comparison.arm_of(run), LONGEST_LABEL),
        ]
        for metric in comparison.shown
        for place, (run, value) in enumerate(comparison.best(metric, count))
    ]
    return [grid("Best runs", ["metric", "place", "value", "run", "arm"], rows, id="best")] if rows else []


def _left_out(comparison: Comparison) -> list[Grid]:
    rows = [
        [run.label, f"{run.status}: {run.manifest.get('error') or 'no reason given'}"] for run in comparison.unfinished
    ]
    rows += [[run.label, "a later run has the same configuration and seed"] for run in comparison.repeated]
    rows += [[each.path, each.reason] for each in comparison.skipped]
    return (
        [grid("Folders whose numbers are not used", ["folder", "why"], rows, id="left-out", heading="Left out")]
        if rows
        else []
    )


def _arm_charts(comparison: Comparison) -> tuple[list[Chart], str]:
    """Curves of the arms one over the other: all of them, or the reference and the first ones."""
    ordered = sorted(comparison.arms, key=lambda arm: arm.label != comparison.reference)
    arms = ordered[:MOST_ARMS_DRAWN]
    per_arm = max(1, MOST_RUNS_DRAWN // max(1, len(arms)))
    read: dict[str, list[dict[str, Series]]] = {}
    left = 0
    for arm in arms:
        chosen = _spread(arm, per_arm)
        left += len(arm.runs) - len(chosen)
        read[arm.label] = [read_series(run.folder) for run in chosen]
    names = dict.fromkeys(
        name for found in read.values() for each in found for name, curve in each.items() if len(curve.steps) > 1
    )
    charts: list[Chart] = []
    # One chart per series here, not per group: the lines are the arms.
    for group in groups(names):
        for name in group.names:
            rows: list[dict[str, Any]] = []
            for label, found in read.items():
                rows += rows_of_arm(label, [each[name] for each in found if name in each])
            title = name if len(group.names) > 1 else group.title
            alt = f"{name} over the optimizer steps, one line per arm."
            charts += _chart(len(charts), Group(title, group.y, (name,), group.log, alt), rows)
    told = "Lines are medians over the seeds of an arm, bands reach from the lowest to the highest value."
    hidden = len(comparison.arms) - len(arms)
    if hidden:
        told += f" Drawn are {len(arms)} of {len(comparison.arms):,} arms, the reference among them."
    if left:
        told += f" Of arms with many runs {per_arm} are drawn."
    return charts, told


def _spread(arm: Arm, count: int) -> Sequence[Run]:
    """`count` runs spread evenly over the arm."""
    if len(arm.runs) <= count:
        return arm.runs
    return [arm.runs[place * len(arm.runs) // count] for place in range(count)]

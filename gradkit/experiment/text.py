"""What an experiment prints at its end: the table of its arms and the verdict on each claim."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gradkit.compare.text import name, shown
from gradkit.experiment.results import Results

MOST_DETAILS = 6
"""Arms a claim shows one by one; those that do not bear it out come first."""


def parts(results: Results) -> Iterator[RenderableType]:
    """The results as Rich renderables, top to bottom."""
    metrics = list(results.experiment.metrics)
    made = Table(show_edge=False, pad_edge=False)
    made.add_column("arm", no_wrap=True)
    for metric in metrics:
        made.add_column(name(metric, 24), justify="right")
    for arm in results.experiment.arms:
        made.add_row(name(arm.name), *(_mean(results, arm.name, metric) for metric in metrics))
    yield Text()
    yield made
    yield Text("means over seeds; intervals are in results.json and report.html", style="dim")
    yield Text()
    for judgement in results.judgements:
        mark, style = ("holds", "bold green") if judgement.holds else ("FAILS", "bold red")
        yield Text(f"{mark}  ", style=style).append_text(name(judgement.claim.say, 400))
        ordered = sorted(judgement.details, key=lambda detail: detail.holds)
        for detail in ordered[:MOST_DETAILS]:
            yield Text("       ").append_text(name(f"{detail.arm} {detail.other}: {detail.text}", 300))
        if len(ordered) > MOST_DETAILS:
            yield Text(
                f"       and {len(ordered) - MOST_DETAILS} more arms, which hold"
                if all(each.holds for each in ordered[MOST_DETAILS:])
                else f"       and {len(ordered) - MOST_DETAILS} more arms"
            )
    for failure in results.failures:
        yield Text("failed: ", style="bold red").append_text(
            name(f"{failure.run.arm.name}, seed {failure.run.seed}: {failure.reason}", 400)
        )
    held = sum(judgement.holds for judgement in results.judgements)
    yield Text(
        f"{held} of {len(results.judgements)} claims hold; {results.made} runs made in {results.seconds:.1f} s",
        style="bold",
    )


def _mean(results: Results, arm: str, metric: str) -> Text:
    found, non_finite = results.summary(arm, metric)
    text = Text(shown(found.mean) if found.n else "")
    if non_finite:
        text.append(f"{' and ' if found.n else ''}{non_finite} non-finite", style="bold red")
    return text

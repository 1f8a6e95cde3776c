"""The HTML page of an experiment."""

from __future__ import annotations

from gradkit.experiment.figures import draw, table
from gradkit.experiment.results import Results
from gradkit.report.html import Chart, cut, grid, plain_rows, render


def experiment_page(results: Results) -> str:
    """Question, claims, figures, table of the arms, findings, settings and versions on one page.

    Raises:
        ConfigError: vl-convert is not installed.
    """
    experiment = results.experiment
    alts = {figure.name: figure.alt or figure.title for figure in experiment.figures}
    charts = [
        Chart(f"figure-{number}", cut(alts[name], 300), specification)
        for number, (name, specification) in enumerate(draw(results, width="container").items())
    ]
    held = sum(judgement.holds for judgement in results.judgements)
    made = sum(len(found) for found in results.runs.values())
    cells = table(results)
    metrics = list(experiment.metrics)
    tables = [
        grid(
            "Mean ± half of the 95 % t interval over seeds",
            ["arm", *metrics],
            [[arm, *(row.get(metric, "") for metric in metrics)] for arm, row in cells.items()],
            id="arms",
            heading="Arms",
        )
    ]
    rules = sorted(
        {
            str(finding.get("rule"))
            for found in results.runs.values()
            for run in found.values()
            for finding in run.findings
        }
    )
    if rules:
        rows = []
        for arm, found in results.runs.items():
            having = [{str(finding.get("rule")) for finding in run.findings} for run in found.values()]
            rows.append([arm, *(f"{sum(rule in each for each in having)} of {len(having)}" for rule in rules)])
        tables.append(grid("Runs with a finding", ["arm", *rules], rows, id="findings", heading="Findings"))
    tables.append(
        grid(
            "What each arm sets",
            ["arm", "program", "settings"],
            [[arm.name, arm.program, " ".join(arm.overrides)] for arm in experiment.arms],
            id="settings",
            heading="Settings",
        )
    )
    if results.failures:
        tables.append(
            grid(
                "Runs without a result",
                ["run", "reason"],
                [[f"{each.run.arm.name}, seed {each.run.seed}", each.reason] for each in results.failures],
                id="failures",
                heading="Failures",
            )
        )
    versions = results.environment.get("versions", {})
    lists = [
        ("metrics", "Metrics", plain_rows(experiment.metrics)),
        ("environment", "Environment", plain_rows({k: v for k, v in results.environment.items() if k != "versions"})),
        ("versions", "Versions", plain_rows(versions)),
    ]
    sections = [("claims", "Claims"), ("figures", "Figures")] if charts else [("claims", "Claims")]
    return render(
        "experiment.html.j2",
        title=f"{experiment.name}{' (quick)' if experiment.quick else ''}",
        question=experiment.question,
        summary=[
            ("claims that hold", f"{held} of {len(results.judgements)}"),
            ("runs", f"{made:,} of {len(experiment.arms) * len(experiment.seeds):,}"),
            ("arms", str(len(experiment.arms))),
            ("seeds", str(len(experiment.seeds))),
            ("date", str(results.environment.get("date", ""))),
        ],
        claims=[
            {
                "say": each.claim.say,
                "holds": each.holds,
                "details": sorted(each.details, key=lambda detail: detail.holds),
            }
            for each in results.judgements
        ],
        charts=charts,
        tables=tables,
        lists=lists,
        sections=[*sections, *((each.id, each.heading) for each in tables), *((id, name) for id, name, _ in lists)],
    )

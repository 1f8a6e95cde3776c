"""The result of an experiment: what was measured, what was claimed, with which versions and when; `results.json`."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gradkit.compare.statistics import Interval, interval
from gradkit.experiment.claims import Judgement, judge
from gradkit.experiment.metrics import measure
from gradkit.experiment.programs.settings import versions
from gradkit.experiment.runner import Failure, PlannedRun
from gradkit.experiment.schema import Experiment
from gradkit.runs.folders import Run
from gradkit.store import plain

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Results:
    """Everything an experiment found out.

    Attributes:
        experiment: What was asked.
        runs: Arm to seed to the run; those that failed are absent.
        measured: Arm to seed to metric to value.
        judgements: One per claim.
        failures: Runs without a result.
        seconds: Wall time of the runs made this time.
        made: Runs made this time; the others were there already.
        environment: Versions, machine, date.
    """

    experiment: Experiment
    runs: Mapping[str, Mapping[int, Run]]
    measured: Mapping[str, Mapping[int, Mapping[str, float]]]
    judgements: Sequence[Judgement]
    failures: Sequence[Failure] = ()
    seconds: float = 0.0
    made: int = 0
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether every claim holds."""
        return all(judgement.holds for judgement in self.judgements)

    def summary(self, arm: str, metric: str) -> tuple[Interval, int]:
        """Mean and interval of the finite values of a metric, and how many were not finite."""
        values = [row[metric] for row in self.measured.get(arm, {}).values() if metric in row]
        finite = [value for value in values if abs(value) < float("inf")]
        return interval(finite), len(values) - len(finite)


def collect(
    experiment: Experiment, planned: Sequence[PlannedRun], failures: Sequence[Failure], seconds: float, made: int
) -> Results:
    """Measure every completed run and judge the claims."""
    runs: dict[str, dict[int, Run]] = {arm.name: {} for arm in experiment.arms}
    for each in planned:
        if each.done:
            runs[each.arm.name][each.seed] = each.result()
    measured = {
        arm: {seed: measure(run, experiment.metrics) for seed, run in found.items()} for arm, found in runs.items()
    }
    found = {
        arm: {seed: [str(finding.get("rule")) for finding in run.findings] for seed, run in each.items()}
        for arm, each in runs.items()
    }
    judgements = judge(experiment.claims, experiment.arms, experiment.seeds, experiment.metrics, measured, found)
    return Results(experiment, runs, measured, judgements, tuple(failures), seconds, made, surroundings(runs))


def surroundings(runs: Mapping[str, Mapping[int, Run]]) -> dict[str, Any]:
    """Versions, machine and date, with the devices the runs say they used."""
    import os

    devices = {
        str((run.manifest.get("environment") or {}).get("device", "unknown"))
        for found in runs.values()
        for run in found.values()
    }
    return {
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": sorted(devices),
    }


def to_json(results: Results) -> dict[str, Any]:
    """The results as strict JSON data."""
    experiment = results.experiment
    document = {
        "schema_version": SCHEMA_VERSION,
        "experiment": experiment.name,
        "question": experiment.question,
        "quick": experiment.quick,
        "holds": results.holds,
        **results.environment,
        "seeds": experiment.seeds,
        "metrics": dict(experiment.metrics),
        "claims": [
            {
                "say": judgement.claim.say,
                "holds": judgement.holds,
                "details": [asdict(detail) for detail in judgement.details],
            }
            for judgement in results.judgements
        ],
        "arms": [
            {
                "name": arm.name,
                "program": arm.program,
                "overrides": arm.overrides,
                "findings": {
                    str(seed): sorted({str(finding.get("rule")) for finding in run.findings})
                    for seed, run in results.runs[arm.name].items()
                },
                "values": {str(seed): row for seed, row in results.measured[arm.name].items()},
                "means": {
                    metric: {**asdict(made), "non_finite": non_finite}
                    for metric in experiment.metrics
                    for made, non_finite in [results.summary(arm.name, metric)]
                    if made.n or non_finite
                },
            }
            for arm in experiment.arms
        ],
        "failures": [
            {"arm": failure.run.arm.name, "seed": failure.run.seed, "reason": failure.reason}
            for failure in results.failures
        ],
    }
    cleaned: dict[str, Any] = plain(document)
    return cleaned


def json_text(results: Results) -> str:
    """`to_json` as text."""
    return json.dumps(to_json(results), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

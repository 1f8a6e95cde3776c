"""Compares arms of runs with one of them, seed by seed."""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gradkit.compare.arms import Arm, arms_of, differing_keys, latest
from gradkit.compare.statistics import CONFIDENCE, Interval, Paired, interval, paired
from gradkit.config.wording import listed, quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.runs.folders import Run, Skipped

HIGHER_IS_BETTER = ("*accuracy", "*auroc", "*average_precision", "*per_second", "*speedup*")
LOWER_IS_BETTER = ("*loss*", "*error*", "*seconds*", "*bytes*", "*diff", "*_ulp*")
SHOWN_FIRST = ("test.accuracy", "test.auroc", "test.log_loss", "validation.log_loss", "train_seconds")
"""Metrics of the terminal's table when none are asked for, as far as the runs have them."""


@dataclass(frozen=True)
class Row:
    """One metric of one arm.

    Attributes:
        metric: Its dotted name.
        arm: Label of the arm.
        summary: Mean and interval of the finite values.
        non_finite: Values that are NaN or infinite.
        against: The paired difference to the reference arm; None for the reference itself.
    """

    metric: str
    arm: str
    summary: Interval
    non_finite: int
    against: Paired | None


@dataclass(frozen=True)
class FindingRow:
    """One rule over all arms.

    Attributes:
        rule: Its code.
        name: Its name.
        severity: The worst seen.
        runs: Arm to the number of its runs with this finding.
        steps: Arm to the number of optimizer steps that showed it, over its runs.
    """

    rule: str
    name: str
    severity: str
    runs: Mapping[str, int]
    steps: Mapping[str, int]


@dataclass(frozen=True)
class Comparison:
    """Everything known about some runs side by side.

    Attributes:
        arms: In the order their first runs were given.
        reference: Label of the arm the others are compared with.
        differing: The configuration keys in which completed runs differ.
        by: The keys the arms were formed by, when they were asked for.
        rows: Every metric of every arm.
        findings: Rules that found something, worst first.
        unfinished: Runs that did not complete; no number of theirs is used.
        repeated: Runs left out because a later run has the same configuration and seed.
        skipped: Folders that could not be read.
        shown: The metrics asked for, or the usual ones.
        confidence: Coverage of every interval.
    """

    arms: tuple[Arm, ...]
    reference: str
    differing: tuple[str, ...]
    by: tuple[str, ...]
    rows: tuple[Row, ...]
    findings: tuple[FindingRow, ...]
    unfinished: tuple[Run, ...] = ()
    repeated: tuple[Run, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    shown: tuple[str, ...] = ()
    confidence: float = CONFIDENCE

    @property
    def runs(self) -> list[Run]:
        """The runs whose numbers are used."""
        return [run for arm in self.arms for run in arm.runs]

    @property
    def metrics(self) -> list[str]:
        """Every metric some run has, by name."""
        return sorted({name for run in self.runs for name in run.metrics})

    def arm_of(self, run: Run) -> str:
        """Label of the arm a run belongs to; an empty string when its numbers are not used."""
        return next((arm.label for arm in self.arms if run in arm.runs), "")

    def best(self, metric: str, count: int = 3) -> list[tuple[Run, float]]:
        """The best runs by a metric, best first; nothing for a metric that has no better direction.

        Args:
            metric: Its dotted name.
            count: How many.
        """
        sign = direction(metric)
        if sign == 0:
            return []
        scored = [(run, run.metrics[metric]) for run in self.runs if math.isfinite(run.metrics.get(metric, math.nan))]
        return sorted(scored, key=lambda each: -sign * each[1])[:count]


def direction(metric: str) -> int:
    """1 where higher is better, -1 where lower is better, 0 where neither can be said.

    Example:
        >>> direction("test.accuracy"), direction("train.log_loss"), direction("steps")
        (1, -1, 0)
    """
    name = metric.rpartition(".")[2]
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in HIGHER_IS_BETTER):
        return 1
    return -1 if any(fnmatch.fnmatchcase(name, pattern) for pattern in LOWER_IS_BETTER) else 0


def compare(
    runs: Sequence[Run],
    *,
    skipped: Sequence[Skipped] = (),
    by: Sequence[str] = (),
    reference: Run | None = None,
    metrics: Sequence[str] = (),
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Sort runs into arms and compare every arm with one of them.

    Args:
        runs: From `load_runs`; those that did not complete are listed, not used.
        skipped: From `load_runs`, to be reported.
        by: Configuration keys that form the arms; the values of all other differing keys then pair the runs, as the
            seed does. By default every differing key but the seed forms the arms.
        reference: A run of the arm the others are compared with; by default the first without a fault,
            otherwise the first.
        metrics: Patterns of the metrics to show, such as `test.*`.
        confidence: Coverage of every interval.

    Raises:
        ConfigError: A key or a pattern that no run has, or a reference that did not complete.
    """
    finished = [run for run in runs if run.finished]
    kept, repeated = latest(finished)
    differing = differing_keys(kept)
    keys = tuple(dict.fromkeys(_known_key(key, finished) for key in by))
    arms = arms_of(kept, keys or differing, differing if keys else ())
    chosen = _reference_arm(arms, reference)
    names = sorted({name for run in kept for name in run.metrics})
    rows = [_row(name, arm, chosen, confidence) for name in names for arm in arms]
    return Comparison(
        arms=tuple(arms),
        reference=chosen.label if chosen is not None else "",
        differing=differing,
        by=keys,
        rows=tuple(row for row in rows if row.summary.n or row.non_finite),
        findings=tuple(_findings(arms)),
        unfinished=tuple(run for run in runs if not run.finished),
        repeated=tuple(repeated),
        skipped=tuple(skipped),
        shown=_shown(names, metrics),
        confidence=confidence,
    )


def _row(metric: str, arm: Arm, reference: Arm | None, confidence: float) -> Row:
    values = arm.values(metric)
    finite = [value for value in values.values() if math.isfinite(value)]
    against = None
    if reference is not None and arm is not reference:
        against = paired(values, reference.values(metric), confidence)
    return Row(metric, arm.label, interval(finite, confidence), len(values) - len(finite), against)


def _known_key(key: str, runs: Iterable[Run]) -> str:
    known = dict.fromkeys(name for run in runs for name in run.config)
    for candidate in (key, f"{key}.name"):
        if candidate in known:
            return candidate
    raise ConfigError(f"--by: no run has the key {quoted(key)}.{did_you_mean(key, known)}")


def _reference_arm(arms: Sequence[Arm], reference: Run | None) -> Arm | None:
    if reference is None:
        sound = [arm for arm in arms if arm.settings.get("fault.name") == "none"]
        return next(iter(sound or arms), None)
    for arm in arms:
        if any(run.folder.resolve() == reference.folder.resolve() for run in arm.runs):
            return arm
    raise ConfigError(
        f"--reference: the run {quoted(str(reference.folder))} cannot be the reference: its status is"
        f" {quoted(reference.status)}, or a later run repeats it."
    )


def _shown(names: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    if not patterns:
        usual = [name for name in SHOWN_FIRST if name in names]
        return tuple(usual or names[:6])
    shown: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            raise ConfigError(
                f"--metric: no completed run has {quoted(pattern)}.{did_you_mean(pattern, names)}"
                f" There are: {listed(names, 12) or 'none'}."
            )
        shown.update(dict.fromkeys(matching))
    return tuple(shown)


def _findings(arms: Sequence[Arm]) -> list[FindingRow]:
    order = ("note", "warning", "error")
    names: dict[str, str] = {}
    worst: dict[str, int] = {}
    runs: dict[str, Counter[str]] = {}
    steps: dict[str, Counter[str]] = {}
    for arm in arms:
        for run in arm.runs:
            codes = set()
            for finding in run.findings:
                code, severity = str(finding.get("rule", "?")), str(finding.get("severity", "note"))
                names.setdefault(code, str(finding.get("name", "")))
                worst[code] = max(worst.get(code, 0), order.index(severity) if severity in order else 0)
                count = finding.get("count", 1)
                steps.setdefault(code, Counter())[arm.label] += count if isinstance(count, int) else 1
                codes.add(code)
            for code in codes:
                runs.setdefault(code, Counter())[arm.label] += 1
    ranked = sorted(names, key=lambda code: (-worst[code], code))
    return [FindingRow(code, names[code], order[worst[code]], dict(runs[code]), dict(steps[code])) for code in ranked]

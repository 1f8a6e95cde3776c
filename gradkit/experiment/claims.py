"""Judges claims: seed by seed for orders, by the interval of the mean ratio for ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradkit.compare.comparison import direction
from gradkit.compare.statistics import interval
from gradkit.experiment.metrics import Expression
from gradkit.experiment.schema import Arm, Claim, filled, matched

Measured = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Arm to seed to metric to value; a seed that failed is absent."""
Found = Mapping[str, Mapping[int, Sequence[str]]]
"""Arm to seed to the codes of its findings."""


@dataclass(frozen=True)
class Detail:
    """A claim about one arm.

    Attributes:
        arm: Its name.
        other: What it was held against, in words.
        count: Seeds that bear it out; for a ratio the seeds used.
        of: Seeds there should be.
        holds: The verdict.
        text: The numbers behind it.
    """

    arm: str
    other: str
    count: int
    of: int
    holds: bool
    text: str


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict: it holds when it does for every arm it is about."""

    claim: Claim
    details: tuple[Detail, ...]

    @property
    def holds(self) -> bool:
        """Whether all details hold."""
        return all(detail.holds for detail in self.details)


def judge(
    claims: Sequence[Claim],
    arms: Sequence[Arm],
    seeds: Sequence[int],
    metrics: Mapping[str, str],
    measured: Measured,
    found: Found,
) -> list[Judgement]:
    """Judge every claim.

    A value that is missing bears nothing out. A non-finite value of a metric whose lower values are better, such as the
    loss of a run that diverged, counts as infinitely large; otherwise a non-finite value bears nothing out either.

    Args:
        claims: Checked already.
        arms: All arms.
        seeds: All seeds.
        metrics: Name to expression.
        measured: Values of the runs that completed.
        found: Codes of their findings.
    """
    judgements = []
    for claim in claims:
        details = []
        for arm in arms:
            texts = matched(claim.arm, arm.name)
            if texts is not None:
                details.append(_Judge(claim, arm.name, texts, seeds, metrics, measured, found).detail())
        judgements.append(Judgement(claim, tuple(details)))
    return judgements


@dataclass(frozen=True)
class _Judge:
    claim: Claim
    arm: str
    texts: Sequence[str]
    seeds: Sequence[int]
    metrics: Mapping[str, str]
    measured: Measured
    found: Found

    def detail(self) -> Detail:
        relation = self.claim.relation
        if relation in ("finding", "absent"):
            return self._about_findings()
        if relation == "ratio_to":
            return self._ratio()
        return self._order(relation)

    @property
    def _needed(self) -> int:
        return len(self.seeds) if self.claim.seeds is None else self.claim.seeds

    def _values(self, arm: str) -> dict[int, float]:
        metric = str(self.claim.metric)
        worse = direction(Expression.read(self.metrics[metric], metric).name) < 0
        values = {}
        for seed, row in self.measured.get(arm, {}).items():
            if metric in row:
                values[seed] = math.inf if worse and not math.isfinite(row[metric]) else row[metric]
        return values

    def _order(self, relation: str) -> Detail:
        claim = self.claim
        other = getattr(claim, relation)
        mine = self._values(self.arm)
        if isinstance(other, str):
            name = filled(other, self.texts)
            theirs = self._values(name)
        else:
            name, theirs = f"{other:g}", dict.fromkeys(self.seeds, other)
        pairs = [(mine[seed], theirs[seed] * claim.factor) for seed in self.seeds if seed in mine and seed in theirs]
        count = sum(_bears_out(relation, left, right, claim.tolerance) for left, right in pairs)
        words = {"above": ">", "below": "<", "equals": "="}[relation]
        times = f"{claim.factor:g} x " if claim.factor != 1 else ""
        text = f"{count} of {len(self.seeds)} seeds"
        if pairs:
            means = [sum(side) / len(pairs) for side in zip(*pairs, strict=True)]
            text += f"; means {means[0]:.4g} and {means[1] / claim.factor:.4g}"
        return Detail(self.arm, f"{words} {times}{name}", count, len(self.seeds), count >= self._needed, text)

    def _ratio(self) -> Detail:
        claim = self.claim
        name = filled(str(claim.ratio_to), self.texts)
        mine, theirs = self._values(self.arm), self._values(name)
        ratios = [mine[seed] / theirs[seed] for seed in self.seeds if theirs.get(seed) and seed in mine]
        usable = [ratio for ratio in ratios if math.isfinite(ratio) and ratio > 0]
        low, high = claim.between or (None, None)
        bounds = f"ratio to {name} in [{'' if low is None else f'{low:g}'}, {'' if high is None else f'{high:g}'}]"
        if len(usable) < max(2, self._needed):
            text = f"only {len(usable)} of {len(self.seeds)} seeds give a ratio"
            return Detail(self.arm, bounds, len(usable), len(self.seeds), False, text)
        # Of logarithms: a ratio and its inverse are then equally far from 1.
        made = interval([math.log(ratio) for ratio in usable])
        start, mean, end = (math.exp(each) for each in (made.low or 0.0, made.mean, made.high or 0.0))
        holds = (low is None or start >= low) and (high is None or end <= high)
        text = f"ratio {mean:.4g}, 95% interval {start:.4g} to {end:.4g} ({made.method}, {made.n} seeds)"
        return Detail(self.arm, bounds, len(usable), len(self.seeds), holds, text)

    def _about_findings(self) -> Detail:
        claim = self.claim
        code = claim.finding or str(claim.absent)
        rows = self.found.get(self.arm, {})
        having = sum(bool(codes) if code == "*" else code in codes for codes in rows.values())
        count = having if claim.finding else len(rows) - having
        any_code = code == "*"
        what = ("a finding" if any_code else code) if claim.finding else ("no finding" if any_code else f"no {code}")
        text = f"in {count} of {len(self.seeds)} runs"
        return Detail(self.arm, what, count, len(self.seeds), count >= self._needed, text)


def _bears_out(relation: str, left: float, right: float, tolerance: float) -> bool:
    if relation == "above":
        return left > right
    if relation == "below":
        return left < right
    if math.isnan(left) or math.isnan(right):
        return False
    return left == right or abs(left - right) <= tolerance * max(abs(left), abs(right))

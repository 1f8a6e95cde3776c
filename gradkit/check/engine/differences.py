"""Directional derivatives by central differences with Richardson extrapolation, each with a bound of its own error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

LEVELS = 4
"""Steps h, h/2, h/4, h/8: the truncation error of the last entry is of order h to the 8th."""

STARTS = (2.0**-4, 2.0**-9, 2.0**-14, 2.0**-19, 2.0**-24)
"""First steps that are tried, relative to the size of the point, until the error is below the goal."""

AMPLIFICATION = 2.0
"""How much extrapolation can enlarge rounding: (5/3) (17/15) (65/63) = 1.95 for the three columns."""

SELECTION = 4.0
"""Neighbours in the table estimate the error of one entry; the entry taken is the one that looks best of all, so its
estimate is likely a low one. One more halving of the step in a second-order column would make up for as much."""

OWN_ROUNDING = 8 * 2.0**-53
"""Share of a derivative that the table's own arithmetic in float64 may round away."""

KINK_SHARE = 0.5
"""From this share of the bend on the constant part is called a corner; below, it only widens the error."""

CONFIRMATION = 27 / 128
"""One more step, no power of two of the others: a function that oscillates in time with the steps looks smooth to
them. Few bits, so that adding it to the point stays exact."""


@dataclass(frozen=True)
class Difference:
    """One directional derivative.

    Attributes:
        value: The derivative; NaN when the function is not finite around the point.
        error: Bound of its error; infinite when it could not be found.
        left: Slope seen from below.
        right: Slope seen from above.
        kink: The two slopes do not approach each other: the function has a corner at the point.
        evaluations: How often the function was called.
    """

    value: float
    error: float
    left: float
    right: float
    kink: bool
    evaluations: int


def derivative(
    evaluate: Callable[[Tensor], Tensor],
    point: Tensor,
    at_point: Tensor,
    direction: Tensor,
    *,
    weights: Tensor,
    noise: Tensor,
    unit: float,
    size: float,
    goal: float,
    levels: int = LEVELS,
    starts: Sequence[float] = STARTS,
) -> Difference:
    """The derivative of `weights . evaluate(point + t direction)` by t at 0.

    The outputs are subtracted before they are contracted, so outputs that do not move add hardly any rounding.

    Args:
        evaluate: From `(n,)` to `(m,)`, float64.
        point: `(n,)`, float64.
        at_point: `evaluate(point)`.
        direction: `(n,)`, float64.
        weights: `(m,)`, float64.
        noise: Bound of the absolute rounding error of each output, `(m,)`, float64.
        unit: Unit round-off the function computes with. What does not move may have moved by so much of itself, and
            what is zero at the point is rounded where it is not.
        size: Length along `direction` on which the function may be expected to change, above 0.
        goal: Error that is good enough; smaller steps are not tried once it is reached.
        levels: Number of step sizes per start, at least 2.
        starts: First steps to try, relative to `size`.

    Source: Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering Software 4 (1982), for
        the error estimate from neighbours in Romberg's table.
    """

    def probe(step: float) -> _Pair:
        above, below = evaluate(point + step * direction), evaluate(point - step * direction)
        moved = (above != below) | (above != at_point)
        quantum = unit * torch.maximum(above.abs(), below.abs())
        central, left, right, rounding = torch.stack(
            [
                torch.where(moved, weights * (above - below), 0.0).sum() / (2 * step),
                torch.where(moved, weights * (at_point - below), 0.0).sum() / step,
                torch.where(moved, weights * (above - at_point), 0.0).sum() / step,
                (weights.abs() * torch.where(moved, torch.maximum(noise, 4 * quantum), quantum)).sum() / step,
            ]
        ).tolist()
        return _Pair(step, central, left, right, rounding)

    tables: list[tuple[float, Difference]] = []
    for start in starts:
        if any(found.kink and earlier < start for earlier, found in tables):
            continue  # the corner is inside this step too
        # A power of two keeps `point + step` exact wherever the format allows it.
        found = _table(probe, 2.0 ** round(math.log2(start * size)), levels)
        tables.append((start, found))
        if found.error <= goal and not found.kink:
            break
    return replace(_agreed(tables), evaluations=2 * (levels + 1) * len(tables))


def _agreed(tables: Sequence[tuple[float, Difference]]) -> Difference:
    """The best of several tables, with an error that covers their disagreement.

    Tables whose steps reach across a corner may agree with themselves and be wrong. Those with larger steps than one
    that saw a corner are therefore dropped; when no smaller one is clean, the corner is at the point itself.
    """
    cornered = min((start for start, found in tables if found.kink), default=math.inf)
    clean = [
        (start, found) for start, found in tables if not found.kink and start < cornered and math.isfinite(found.error)
    ]
    if not clean:
        finite = [(start, found) for start, found in tables if math.isfinite(found.error)]
        return min(finite or tables, key=lambda each: each[0])[1]
    chosen, best = min(clean, key=lambda each: each[1].error)
    # Smaller steps see less of the function; where they disagree beyond their own error, the larger ones were fooled.
    apart = [
        abs(best.value - found.value)
        for start, found in clean
        if start < chosen and abs(best.value - found.value) > best.error + found.error
    ]
    return replace(best, error=best.error + max(apart, default=0.0))


@dataclass(frozen=True)
class _Pair:
    """What the two points `step` away on either side give.

    Attributes:
        step: The step.
        central: Slope between them.
        left: Slope from the lower one to the point.
        right: Slope from the point to the upper one.
        rounding: Bound of the rounding error of `central`.
    """

    step: float
    central: float
    left: float
    right: float
    rounding: float

    @property
    def bend(self) -> float:
        """Difference of the two slopes: proportional to the step for a smooth function, constant at a corner."""
        return self.right - self.left


def _table(probe: Callable[[float], _Pair], step: float, levels: int) -> Difference:
    """Romberg's table for the steps `step / 2**j`; the entry with the smallest bound of its error."""
    pairs = [probe(step / 2**level) for level in range(levels)]
    rows: list[list[float]] = []
    value, error = math.nan, math.inf
    for level, pair in enumerate(pairs):
        row = [pair.central]
        for column in range(1, level + 1):
            factor, above = 4.0**column, rows[level - 1][column - 1]
            row.append((factor * row[column - 1] - above) / (factor - 1))
            if not (math.isfinite(row[column]) and math.isfinite(above)):
                continue
            spread = max(abs(row[column] - row[column - 1]), abs(row[column] - above))
            bound = SELECTION * spread + AMPLIFICATION * pair.rounding
            if bound < error:
                value, error = row[column], bound
        rows.append(row)
    last = pairs[-1]
    if not math.isfinite(error):
        return Difference(value, error, last.left, last.right, False, 0)
    corner = _corner(pairs)
    error += abs(corner) / 2 + OWN_ROUNDING * abs(value)
    check = probe(last.step * CONFIRMATION)
    # The central slope at a smaller step errs by no more than at the last one, or the table has been fooled.
    allowed = error + check.rounding + abs(value - last.central)
    kink = abs(corner) > KINK_SHARE * abs(last.bend) and abs(corner) > 16 * last.rounding
    if not kink and not abs(check.central - value) <= allowed:
        error = math.inf
    return Difference(value, error, check.left, check.right, kink, 0)


def _corner(pairs: Sequence[_Pair]) -> float:
    """How far apart the two slopes stay when the step goes to zero: half of it is the error of a central slope.

    The bend of a smooth function is `a h + b h**3 + ...`; extrapolating it to h = 0 leaves only a corner nearer than
    the smallest step, which every central slope of the table averages over alike.
    """
    first = [2 * fine.bend - coarse.bend for coarse, fine in pairwise(pairs)]
    second = [(8 * fine - coarse) / 7 for coarse, fine in pairwise(first)]
    return (second or first)[-1]

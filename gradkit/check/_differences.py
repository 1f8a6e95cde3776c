"""Directional derivatives by central differences with Richardson extrapolation, each with a bound of its own error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

LEVELS = 4
"""Steps h, h/2, h/4, h/8: the truncation error of the last entry is of order h to the 8th."""

STARTS = (2.0**-4, 2.0**-9, 2.0**-14, 2.0**-19, 2.0**-24)
"""First steps that are tried, relative to the size of the point, until the error is below the goal."""

AMPLIFICATION = 2.0
"""How much extrapolation can enlarge rounding: (5/3) (17/15) (65/63) = 1.95 for the three columns."""

KINK_RATIO = 0.75
"""Halving the step halves the jump of the slopes of a smooth function and keeps that of a kink; the middle."""


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
    quantum: Tensor,
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
        quantum: Unit round-off of each output, `(m,)`, float64: by so much it may move without being seen to.
        size: Length along `direction` on which the function may be expected to change, above 0.
        goal: Error that is good enough; smaller steps are not tried once it is reached.
        levels: Number of step sizes per start, at least 2.
        starts: First steps to try, relative to `size`.

    Source: Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering Software 4 (1982), for
        the error estimate from neighbours in Romberg's table.
    """
    tables: list[tuple[float, Difference]] = []
    for start in starts:
        if any(found.kink and earlier < start for earlier, found in tables):
            continue  # the corner is inside this step too
        # A power of two keeps `point + step` exact wherever the format allows it.
        step = 2.0 ** round(math.log2(start * size))
        found = _table(evaluate, point, at_point, direction, weights, noise, quantum, step, levels)
        tables.append((start, found))
        if found.error <= goal and not found.kink:
            break
    return replace(_agreed(tables), evaluations=2 * levels * len(tables))


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


def _table(
    evaluate: Callable[[Tensor], Tensor],
    point: Tensor,
    at_point: Tensor,
    direction: Tensor,
    weights: Tensor,
    noise: Tensor,
    quantum: Tensor,
    step: float,
    levels: int,
) -> Difference:
    """Romberg's table for the steps `step / 2**j`; the entry with the smallest bound of its error."""
    rows: list[list[float]] = []
    jumps: list[float] = []
    roundings: list[float] = []
    value, error, left, right = math.nan, math.inf, math.nan, math.nan
    for level in range(levels):
        h = step / 2**level
        above, below = evaluate(point + h * direction), evaluate(point - h * direction)
        change = above - below
        moved = (change != 0) | (above != at_point)
        right, left, central, rounding, jump = _stacked(
            torch.where(moved, weights * (above - at_point), 0.0).sum() / h,
            torch.where(moved, weights * (at_point - below), 0.0).sum() / h,
            torch.where(moved, weights * change, 0.0).sum() / (2 * h),
            (weights.abs() * torch.where(moved, noise, quantum)).sum() / h,
            torch.where(moved, weights * (above - 2 * at_point + below), 0.0).abs().sum() / h,
        )
        row = [central]
        for column in range(1, level + 1):
            factor = 4.0**column
            row.append((factor * row[column - 1] - rows[level - 1][column - 1]) / (factor - 1))
            if not all(math.isfinite(each) for each in (row[column], rows[level - 1][column - 1])):
                continue
            spread = max(abs(row[column] - row[column - 1]), abs(row[column] - rows[level - 1][column - 1]))
            bound = spread + AMPLIFICATION * rounding
            if bound < error:
                value, error = row[column], bound
        rows.append(row)
        jumps.append(jump)
        roundings.append(rounding)
    return Difference(value, error, left, right, _is_kink(jumps, roundings), 0)


def _is_kink(jumps: list[float], roundings: list[float]) -> bool:
    if len(jumps) < 2 or not math.isfinite(jumps[-1] + jumps[-2]):
        return False
    last, before = jumps[-1], jumps[-2]
    return last > KINK_RATIO * before and last > 16 * roundings[-1]


def _stacked(*values: Tensor) -> list[float]:
    """The scalars as Python floats, with one wait for the device."""
    return [float(each) for each in torch.stack(values).tolist()]

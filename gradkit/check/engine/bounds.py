"""How far rounding alone may move a result: the bound, from replays with random rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.special import stdtrit
from torch import Tensor

from gradkit.check.engine.errors import own_computation
from gradkit.check.engine.precision import FORMATS, Format
from gradkit.check.engine.replay import RandomRounding
from gradkit.check.engine.subject import Subject

SIMULATED_BITS = 48
"""float64 is imitated with 48 bits in float64, and the spread scaled by 2**-5: rounding acts linearly at first order.

Fewer bits would find saturation where float64 has none yet (sigmoid rounds to 1 from 28 on with 40 bits, from 33 on
with 48, from 37 on in float64). More would let the carrier's own rounding, now 3 % of the imitated one, count."""

REPLAYS = 16
"""Independent replays per bound. The factor falls from 28 at 8 replays to 14 at 16 and to 10 at 32 (tail 1e-10)."""

FALSE_ALARM = 1e-6
"""Probability that rounding alone makes a whole check of one correct function fail."""

FLOOR_ULPS = 4.0
"""A result may be off by this many unit round-offs without any amplification: elementary functions of the vendors'
libraries are only faithful to a few ULP, which exact replays cannot know."""


@dataclass(frozen=True)
class Spread:
    """What replays showed.

    Attributes:
        center: The result without extra rounding, `(n,)`, float64.
        deviation: Root mean square deviation from it, `(n,)`, float64, scaled to the format; infinite where a replay
            was not finite although the center was.
        replays: How many there were.
    """

    center: Tensor
    deviation: Tensor
    replays: int

    def bound(self, fmt: Format, *, tests: int, false_alarm: float = FALSE_ALARM) -> Tensor:
        """Bound of the rounding error of each element, `(n,)`, float64.

        Args:
            fmt: Format of the result.
            tests: How many elements are judged together; the probability is divided among them.
            false_alarm: Probability that any of them exceeds its bound by rounding alone.
        """
        factor = student_factor(self.replays, false_alarm / max(1, tests))
        floor = FLOOR_ULPS * fmt.unit_roundoff * self.center.abs() + 2 * fmt.smallest_step
        return factor * self.deviation + floor


def student_factor(replays: int, tail: float) -> float:
    """By how many root mean square deviations a new draw may lie off with two-sided probability `tail`.

    Example:
        >>> round(student_factor(16, 2e-10), 2)
        14.06
    """
    return float(-stdtrit(replays, tail / 2))


def simulation(bits: int) -> tuple[int, float]:
    """How a precision is imitated in float64: bits to round to, and the factor from the spread seen to the real one."""
    if bits <= SIMULATED_BITS:
        return bits, 1.0
    return SIMULATED_BITS, math.ldexp(1.0, SIMULATED_BITS - bits)


def spread(
    subject: Subject,
    compute: Callable[[], Tensor],
    center: Tensor,
    bits: int,
    fmt: Format,
    *,
    seed: int,
    replays: int = REPLAYS,
) -> Spread:
    """Replay a computation with random roundings.

    Args:
        subject: Whose function, backward pass and hand-written gradient are rounded.
        compute: Gives `(n,)`, float64, by means of the subject.
        center: Its result without.
        bits: Significand bits the real computation works with.
        fmt: Exponent range of the real computation.
        seed: Of the roundings.
        replays: How many.

    Raises:
        ReplayError: A replay raised: the code does not run with these roundings.
    """
    rounded_to, scale = simulation(bits)
    generator = torch.Generator(device=center.device).manual_seed(seed)
    total = torch.zeros_like(center)
    for _ in range(replays):
        mode = RandomRounding(rounded_to, fmt if scale == 1.0 else FORMATS[torch.float64], generator)
        with subject.computing_under(mode), own_computation("a replay with random rounding"):
            result = compute()
        total += (result - center) ** 2
    deviation = scale * (total / replays).sqrt()
    return Spread(center, torch.where(deviation.isnan(), torch.inf, deviation), replays)

"""Two trajectories side by side at the step where they part, with the arithmetic that the diagnoses share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from gradkit.trajectory.compare import Difference
from gradkit.trajectory.tolerances import Bounds
from gradkit.trajectory.values import Trajectory

SLACK = 20.0
"""Times the comparison's tolerance that the equations of a diagnosis may miss by: they combine up to six rounded
numbers and divide by differences."""
MOST = 0.03
"""Largest relative miss, whatever the tolerance: in bfloat16 nearly any equation would hold otherwise."""


@dataclass(frozen=True)
class Pair:
    """What a diagnosis looks at.

    Attributes:
        golden: The accepted run.
        now: The run that differs.
        difference: The first difference.
        bounds: The tolerances.
    """

    golden: Trajectory
    now: Trajectory
    difference: Difference
    bounds: Bounds

    @cached_property
    def step(self) -> int | None:
        """The first step at which some compared quantity differs."""
        return self.difference.step

    @cached_property
    def rtol(self) -> float:
        """How far the two sides of an equation may lie apart, relative to their size."""
        return min(SLACK * self.bounds.at_step(self.step or 0), MOST)

    @cached_property
    def common(self) -> int:
        """Number of steps both have."""
        return min(len(self.golden.rows), len(self.now.rows))

    @cached_property
    def changed_settings(self) -> dict[str, str]:
        """Settings that differ, by name, as `lr 0.1 -> 0.2`; none when either side knows none."""
        old, new = self.golden.settings, self.now.settings
        if not old or not new:
            return {}
        return {
            name: f"{name} {_said(old.get(name))} -> {_said(new.get(name))}"
            for name in [*old, *(name for name in new if name not in old)]
            if old.get(name) != new.get(name) and not _equal(old.get(name), new.get(name))
        }

    def values(self, column: str, step: int | None = None) -> tuple[float, float] | None:
        """The golden value and the one now, or None when either is missing."""
        step = self.step if step is None else step
        if step is None or step >= self.common or step < 0:
            return None
        old, new = self.golden.rows[step].get(column), self.now.rows[step].get(column)
        return None if old is None or new is None else (old, new)

    def same(self, column: str, step: int | None = None) -> bool:
        """Whether the column is known on both sides and equal within the tolerance."""
        step = self.step if step is None else step
        found = self.values(column, step)
        return found is not None and step is not None and self.bounds.same(column, step, found[1])

    def differs(self, column: str, step: int | None = None) -> bool:
        """Whether the column is known on both sides and not equal."""
        return self.values(column, step) is not None and not self.same(column, step)

    def ratio(self, column: str, step: int | None = None) -> float | None:
        """The value now over the golden one."""
        found = self.values(column, step)
        return found[1] / found[0] if found is not None and found[0] and math.isfinite(found[1]) else None

    def close(self, first: float, second: float, scale: float | None = None) -> bool:
        """Whether two computed numbers agree within `SLACK` times the tolerance of the step, relative to `scale`."""
        size = max(abs(first), abs(second)) if scale is None else scale
        return math.isfinite(first) and math.isfinite(second) and abs(first - second) <= self.rtol * size

    def dot(self, side: str, cosine: str, first: str, second: str, step: int | None = None) -> float | None:
        """An inner product of one side's row from its cosine and norms; 0 where a norm is 0."""
        step = self.step if step is None else step
        rows = (self.golden if side == "golden" else self.now).rows
        if step is None or not 0 <= step < len(rows):
            return None
        row = rows[step]
        if first not in row or second not in row:
            return None
        if row[first] == 0 or row[second] == 0:
            return 0.0
        return row[cosine] * row[first] * row[second] if cosine in row else None

    def multiple_of_weights(self, quantity: str) -> float | None:
        """The c for which `quantity` now = golden + c * weights, when one satisfies norm and inner product alike.

        Args:
            quantity: `grad` or `update`.
        """
        size = self.values("weight_norm_l2")
        norms = self.values(f"{quantity}_norm_l2")
        old = self.dot("golden", f"{quantity}_weight_cosine", f"{quantity}_norm_l2", "weight_norm_l2")
        new = self.dot("now", f"{quantity}_weight_cosine", f"{quantity}_norm_l2", "weight_norm_l2")
        if size is None or norms is None or old is None or new is None or not size[0]:
            return None
        factor = (new - old) / size[0] ** 2
        expected = norms[0] ** 2 + 2 * factor * old + (factor * size[0]) ** 2
        # The equation loses its meaning when the added part is lost in the rounding of the whole.
        added = abs(factor) * size[0]
        noise = self.bounds.rtol * max(norms)
        if added <= noise:
            return None
        misses = abs(expected - norms[1] ** 2)
        allowed = self.rtol * max(norms) ** 2
        return factor if misses <= min(allowed, 0.2 * abs(norms[1] ** 2 - norms[0] ** 2) + noise * max(norms)) else None


def _said(value: object) -> str:
    return "absent" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _equal(first: object, second: object) -> bool:
    return isinstance(first, list) and isinstance(second, list) and [*map(str, first)] == [*map(str, second)]


def factor_in_words(value: float) -> str:
    """A factor as a person would say it.

    Example:
        >>> factor_in_words(1.0100001), factor_in_words(0.25), factor_in_words(-1.0)
        ('1.01', '0.25', '-1')
    """
    return f"{value:.4g}"

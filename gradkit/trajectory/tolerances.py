"""How far two runs of the same training may lie apart, by dtype, and why; imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from gradkit.trajectory.values import SIZES, Trajectory

RTOL = {
    # Unit round-off u is 1.1e-16. Libraries differ in the last bits of exp and log and in the order of their sums: a
    # few hundred u. A million u leaves room for ill-conditioned losses and still tells a change of one part in 1e9.
    "float64": 1e-10,
    # u is 6e-8. Sums over a few thousand terms in another order, as another number of threads makes them, differ by
    # about sqrt(n) u = 4e-6; five times that.
    "float32": 2e-5,
    # u is 4.9e-4. Eight roundings of one value, as mixed kernels make them.
    "float16": 4e-3,
    # u is 3.9e-3, the same eight.
    "bfloat16": 3e-2,
}
"""Largest relative difference at step 0."""

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Unit round-off: half the distance from 1 to the next number (IEEE 754; bfloat16 has 8 significant bits)."""

EXACT = {
    "samples": 0.0,
    # Python floats, written with nine digits at least.
    "lr": 1e-8,
    # Made in float64 from samples that are the same bits, or of float32 data standardised on another machine.
    "batch_signature": 1e-6,
}
"""Largest relative difference, at every step, of columns that no rounding of the run reaches."""

MAY_BE_ABSENT = ("samples", "batch_signature")
"""Not seen once some test of the process has compiled a module; what other samples do shows in the loss as well."""

FLOOR = 1e-3
"""Below this share of a column's largest magnitude, differences count against that share: a norm that has shrunk a
thousandfold is the difference of large terms and keeps their rounding, not its own."""


@dataclass(frozen=True)
class Bounds:
    """Tolerances for one golden trajectory.

    Attributes:
        golden: What is compared with.
        rtol: Largest relative difference at step 0; `at_step` lets it grow.
        roundoff: Unit round-off of the run's dtype.
    """

    golden: Trajectory
    rtol: float
    roundoff: float = ROUNDOFF["float32"]

    @cached_property
    def _largest(self) -> dict[str, float]:
        largest: dict[str, float] = {}
        for row in self.golden.rows:
            for column, value in row.items():
                if math.isfinite(value):
                    largest[column] = max(largest.get(column, 0.0), abs(value))
        return largest

    def at_step(self, step: int) -> float:
        """Largest relative difference at a step.

        A training neither forgets a rounding nor keeps it: it grows with the steps. Between 1 and 2 threads, a ReLU
        network of three layers (float32, batches of 256, loss falling from 0.7 to 0.0003) was measured to differ by at
        most 4e-6 after 50 steps, 2.3e-4 after 100 and 1.6e-3 after 400, with SGD and momentum and with Adam.
        """
        return self.rtol * (1 + step / 4)

    def update_rounding(self, row: Mapping[str, float]) -> float:
        """What rounding alone can do to an update, as a norm.

        The new weights are rounded to `roundoff` times their size, in two runs independently, and the gradient's own
        rounding moves them a third time.
        """
        return 3 * self.roundoff * row.get("weight_norm_l2", 0.0)

    def at(self, column: str, step: int) -> float:
        """Largest difference of `column` at `step` that counts as the same."""
        if column in EXACT:
            return min(EXACT[column], self.rtol) * abs(self.golden.rows[step].get(column, 0.0))
        return self.at_step(step) * self._scale(column, step)

    def _scale(self, column: str, step: int) -> float:
        row = self.golden.rows[step]
        if column in SIZES:
            # Rounding turns a vector by its own relative error, twice for two of them.
            shares = [self._scale(name, step) / row[name] if row.get(name) else 0.0 for name in SIZES[column]]
            return sum(shares) * (row[SIZES[column][0]] if column.endswith("projection") else 1.0)
        here = abs(row.get(column, 0.0))
        if column == "update_norm_l2":
            here += self.update_rounding(row) / self.rtol if self.rtol else 0.0
        return (here if math.isfinite(here) else 0.0) + FLOOR * self._largest.get(column, 0.0)

    def same(self, column: str, step: int, value: float | None) -> bool:
        """Whether `value` counts as the golden one; two non-finite values of one kind do."""
        expected = self.golden.rows[step].get(column)
        if expected is None or value is None:
            return expected is value or column in MAY_BE_ABSENT
        if not (math.isfinite(expected) and math.isfinite(value)):
            return expected == value or (math.isnan(expected) and math.isnan(value))
        return abs(value - expected) <= self.at(column, step)


def bounds_for(golden: Trajectory, rtol: float | None = None) -> Bounds:
    """The bounds of a golden trajectory's dtype, float32's when it is unknown.

    Args:
        golden: What is compared with.
        rtol: Largest relative difference at step 0 instead.
    """
    dtype = golden.dtype if golden.dtype in RTOL else "float32"
    return Bounds(golden, RTOL[dtype] if rtol is None else rtol, ROUNDOFF[dtype])

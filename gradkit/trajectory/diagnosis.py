"""Says what kind of change made a run leave its golden trajectory, from the two trajectories alone; imports no torch.

Within one step, samples come first, then the loss, then the gradient, then the update. The first of them that differs
while everything before it is equal holds the change, and each kind of change has an equation that its numbers satisfy.
A kind is named only when its equations hold within the tolerances of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gradkit.trajectory import changes_in_data, changes_in_gradient, changes_in_update
from gradkit.trajectory.compare import Difference
from gradkit.trajectory.pair import Pair
from gradkit.trajectory.tolerances import Bounds
from gradkit.trajectory.values import Trajectory

_COARSE = 1e-3


@dataclass(frozen=True)
class Diagnosis:
    """The likeliest kind of change.

    Attributes:
        kind: A slug, such as `learning-rate` or `unknown`.
        sentence: What changed, with its number.
        evidence: The facts that led to it.
    """

    kind: str
    sentence: str
    evidence: tuple[str, ...] = field(default_factory=tuple)


def diagnose(golden: Trajectory, now: Trajectory, difference: Difference, bounds: Bounds) -> Diagnosis:
    """The likeliest kind of change behind a difference.

    Args:
        golden: The accepted run.
        now: The run that differs.
        difference: What `compare` returned.
        bounds: The tolerances it was made with.
    """
    pair = Pair(golden, now, difference, bounds)
    found = _first_that_fits(pair)
    facts = list(found[2])
    if pair.changed_settings:
        facts.append("settings that differ: " + ", ".join(pair.changed_settings.values()))
    if bounds.rtol > _COARSE:
        facts.append(
            f"{golden.dtype} rounds coarsely: small changes look alike, so this is less certain than in float32"
        )
    return Diagnosis(found[0], found[1], tuple(facts))


def _first_that_fits(pair: Pair) -> tuple[str, str, tuple[str, ...]]:
    for judge in _ORDER:
        found = judge(pair)
        if found is not None:
            return found
    return ("unknown", "no single kind of change known here explains it", ())


Judge = Callable[[Pair], "tuple[str, str, tuple[str, ...]] | None"]

_ORDER: tuple[Judge, ...] = (
    changes_in_data.precision,
    changes_in_data.model,
    changes_in_data.membership,
    changes_in_data.initialisation,
    changes_in_data.samples,
    changes_in_gradient.loss,
    changes_in_gradient.gradient,
    changes_in_update.update,
    changes_in_update.length,
    changes_in_update.by_settings,
    changes_in_update.between_steps,
    changes_in_update.sparse,
)

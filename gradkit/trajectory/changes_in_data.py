"""Diagnoses of what goes into a step: precision, model, initial weights, samples and their order; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise

from gradkit.trajectory.compare import print_difference
from gradkit.trajectory.pair import Pair, factor_in_words
from gradkit.trajectory.tolerances import EXACT

Found = tuple[str, str, tuple[str, ...]]
Batch = tuple[float, float]
"""Number of samples and their signature."""
Alike = Callable[[Batch, Batch], bool]


def precision(pair: Pair) -> Found | None:
    """Another dtype."""
    if pair.difference.column != "dtype":
        return None
    return ("precision", f"computed in {pair.now.dtype} instead of {pair.golden.dtype}", ())


def model(pair: Pair) -> Found | None:
    """Other parameters."""
    if pair.difference.column != "parameter":
        return None
    return ("model", f"another model: its parameter {pair.difference.subject} differs in presence or shape", ())


def membership(pair: Pair) -> Found | None:
    """Parameters that are trained no more, or are now: a gradient on one side only, and weights that stand still."""
    if pair.step != 0 or not (pair.differs("weight_norm_l2") or pair.differs("weight_projection")):
        return None  # the norms of a step are over what its optimizer holds
    for resting, trained, words in (
        (pair.now, pair.golden, "are no longer trained: the optimizer does not hold them"),
        (pair.golden, pair.now, "are trained now; in the golden run the optimizer did not hold them"),
    ):
        names = [
            name
            for name, each in resting.parameters.items()
            if (other := trained.parameters.get(name)) is not None
            and (each.first_gradient is None and other.first_gradient is not None)
            and (each.initial == each.final and other.initial != other.final)
        ]
        if names:
            return ("untrained", f"{_named(names)} {words}", ())
    return None


def initialisation(pair: Pair) -> Found | None:
    """Other weights before the first step."""
    different = [
        name
        for name, old in pair.golden.parameters.items()
        if (new := pair.now.parameters.get(name)) is not None
        and old.initial is not None
        and new.initial is not None
        and print_difference(
            type(pair.golden)((), {name: old}), type(pair.golden)((), {name: new}), pair.bounds, "initial"
        )
    ]
    if not different:
        if pair.step == 0 and (pair.differs("weight_norm_l2", 0) or pair.differs("weight_projection", 0)):
            return ("initialisation", "another initialisation: the weights before the first step differ", ())
        return None
    total = len(pair.golden.parameters)
    which = "all parameters" if len(different) == total else _named(different)
    factors = set()
    for name in different:
        before_and_after = pair.golden.parameters[name].initial, pair.now.parameters[name].initial
        for before, after in zip(*(each or () for each in before_and_after), strict=True):
            factors.add(round(after / before, 4) if before else math.inf)
    scaled = len(factors) == 1 and math.isfinite(min(factors))
    how = f", multiplied by {factor_in_words(factors.pop())}" if scaled else ""
    return ("initialisation", f"another initialisation of {which}{how}, before the first step", ())


def samples(pair: Pair) -> Found | None:
    """Other samples, other batches or another order."""
    old, new = _batches(pair.golden.rows), _batches(pair.now.rows)
    if old is None or new is None:
        return None
    rtol = 10 * EXACT["batch_signature"]

    def alike(first: tuple[float, float], second: tuple[float, float]) -> bool:
        return first[0] == second[0] and abs(first[1] - second[1]) <= rtol * max(abs(first[1]), abs(second[1]))

    shared = min(len(old), len(new))
    parted = next((step for step in range(shared) if not alike(old[step], new[step])), None)
    if parted is None:
        return _cut_short(pair, old, new) if pair.difference.column == "number of steps" else None
    if pair.step is not None and parted > pair.step:
        return None  # something else differed before
    if len(old) == len(new) and _same_bag(old, new, alike):
        return (
            "data-order",
            "the same batches in another order",
            (f"the first that differs is that of step {parted}",),
        )
    missing = _left_out(old, new, alike)
    if missing:
        return _dropped(old, missing)
    added = _left_out(new, old, alike)
    if added:
        said = (
            f"{len(added)} more batches, the first at step {added[0]}" if len(added) > 1 else f"one at step {added[0]}"
        )
        return ("batch-added", f"batches that were left out are used now: {said}", ())
    span = _equal_span(old, new, parted, rtol)
    sizes = (old[parted][0], new[parted][0])
    if sizes[0] != sizes[1] and parted == 0 and span is not None:
        return (
            "batch-size",
            f"batches of {sizes[1]:g} samples instead of {sizes[0]:g}, of the same data",
            (f"the first {span:g} samples are the same",),
        )
    if span is not None:
        return (
            "data-order",
            f"the same samples in another order: grouped into other batches from step {parted} on",
            (f"the first {span:g} samples together are the same",),
        )
    for shift in range(1, min(8, len(old))):
        if all(alike(old[step + shift], new[step]) for step in range(parted, min(len(new), len(old) - shift))):
            return (
                "batch-dropped",
                f"{shift} batch(es) skipped: step {parted} uses the batch of step {parted + shift}",
                (),
            )
    ratios = [new[step][1] / old[step][1] if old[step][1] else math.inf for step in range(shared)]
    if all(old[step][0] == new[step][0] for step in range(shared)) and max(ratios) - min(ratios) <= rtol * max(ratios):
        scale = factor_in_words(math.sqrt(ratios[0]))
        return ("data-scaled", f"the same samples multiplied by {scale} or -{scale}", ())
    if sizes[0] != sizes[1]:
        return ("batch-size", f"step {parted} uses {sizes[1]:g} samples instead of {sizes[0]:g}", ())
    return ("data", f"other samples, or another order of them, from step {parted} on", ())


def _batches(rows: Sequence[Mapping[str, float]]) -> list[Batch] | None:
    found = []
    for row in rows:
        if "samples" not in row or "batch_signature" not in row:
            return None
        found.append((row["samples"], row["batch_signature"]))
    return found


def _cut_short(pair: Pair, old: list[Batch], new: list[Batch]) -> Found | None:
    """All common batches equal: one run ends earlier."""
    if len(new) < len(old):
        rest = range(len(new), len(old))
        if len(rest) == 1 and old[-1][0] < max(size for size, _ in old):
            return _dropped(old, list(rest))
    return None


def _dropped(old: list[Batch], missing: list[int]) -> Found:
    sizes = [old[step][0] for step in missing]
    largest = max(size for size, _ in old)
    steps = _named([f"{step}" for step in missing])
    apart = {second - first for first, second in pairwise(missing)}
    if all(size < largest for size in sizes):
        return (
            "last-batch-dropped",
            f"the last, smaller batch of an epoch is dropped: {', '.join(f'{size:g}' for size in sorted(set(sizes)))} "
            f"samples, golden step {steps}",
            (),
        )
    if len(apart) == 1 and missing[-1] == len(old) - 1:
        return ("last-batch-dropped", f"the last batch of each epoch is dropped: golden step {steps}", ())
    return ("batch-dropped", f"batches are left out: golden step {steps}", ())


def _left_out(longer: list[Batch], shorter: list[Batch], alike: Alike) -> list[int]:
    """Positions of `longer` without which it begins like `shorter`; empty when that is not how they are related.

    Both may have the same number of steps: then `shorter` goes on past the end of `longer` by what it left out.
    """
    missing: list[int] = []
    place = matched = 0
    for batch in shorter:
        found = next((at for at in range(place, len(longer)) if alike(longer[at], batch)), None)
        if found is None:
            return missing if place == len(longer) and len(shorter) - matched <= len(missing) else []
        missing += range(place, found)
        place, matched = found + 1, matched + 1
    return [*missing, *range(place, len(longer))] if len(longer) > len(shorter) else []


def _same_bag(old: list[Batch], new: list[Batch], alike: Alike) -> bool:
    return all(alike(first, second) for first, second in zip(sorted(old), sorted(new), strict=True))


def _equal_span(old: list[Batch], new: list[Batch], parted: int, rtol: float) -> float | None:
    """The smallest number of samples from the start, past the parting, that both runs used in full."""
    ends_new = dict(zip(accumulate(size for size, _ in new), accumulate(value for _, value in new), strict=True))
    start = sum(size for size, _ in old[: parted + 1])
    for count, total in zip(accumulate(size for size, _ in old), accumulate(value for _, value in old), strict=True):
        if count > start and count in ends_new and abs(ends_new[count] - total) <= rtol * abs(total):
            return count
    return None


def _named(names: Sequence[str], limit: int = 4) -> str:
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")

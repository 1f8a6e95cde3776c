"""Changes part of the inputs of a model and judges the outputs that must not follow, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gradkit.check.engine.batches import Forward, call_model
from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.precision import FORMATS, short_name
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.result import CheckResult, Line
from gradkit.check.engine.result import finding as a_finding
from gradkit.check.engine.runner import Runner

PROBES = 16
"""At most so many parts of the inputs are changed, spread evenly; the first and the last are among them."""

ROUNDING = 2.0**14
"""A change beyond this many unit round-offs of the largest output, in float64, is no rounding: kernels that work on
other shapes or orders than before differ by a few, and a real dependence does not shrink with the dtype."""


@dataclass(frozen=True)
class Probe:
    """One change of the inputs, and the part of the outputs that must not follow.

    Attributes:
        name: Such as `sample 3`.
        change: Gives the inputs with that part changed.
        kept: Picks from an output what must stay.
    """

    name: str
    change: Callable[[Any, torch.Generator], Any]
    kept: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Place:
    """Which outputs are judged.

    Attributes:
        dim: The dimension in question.
        holds: Whether an output has it.
        words: What it has, for a message.
    """

    dim: int
    holds: Callable[[Tensor], bool]
    words: str


def along(dim: int, size: int) -> Place:
    """The outputs with so many entries along a dimension."""
    return Place(
        dim, lambda each: each.dim() > dim and each.shape[dim] == size, f"{size} entries along dimension {dim}"
    )


def picking(dim: int, places: Tensor) -> Callable[[Tensor], Tensor]:
    """Picks these entries along a dimension."""
    return lambda output: output.index_select(dim, places.to(output.device))


def spread(size: int) -> list[int]:
    """At most `PROBES` of so many places."""
    if size <= PROBES:
        return list(range(size))
    return sorted({round(each * (size - 1) / (PROBES - 1)) for each in range(PROBES)})


def typical(values: Tensor) -> float:
    """Root mean square of the values; 1 when they are all zero."""
    size = float(values.double().square().mean().sqrt())
    return size if size > 0 else 1.0


def examine(
    model: nn.Module,
    inputs: Any,
    forward: Forward | None,
    probes: Sequence[Probe],
    place: Place,
    title: str,
    rule: str,
    seed: int,
) -> CheckResult:
    """Change the inputs by each probe and see whether what must not follow stays.

    Raises:
        CheckInputError: No output is of the kind that is judged.
    """
    forward = forward or call_model
    with random_state_kept() as state:
        runner = Runner(model, forward, state, None)
        base = runner.run(inputs)
        judged = [number for number, each in enumerate(base) if place.holds(each)]
        if not judged:
            shapes = ", ".join(str(tuple(each.shape)) for each in base) or "none"
            raise CheckInputError(f"no output has {place.words}; the floating outputs: {shapes}.")
        notes = [
            f"output {number} of shape {tuple(each.shape)} has no such dimension and was left out."
            for number, each in enumerate(base)
            if number not in judged
        ]
        again = runner.run(inputs)
        if any(not _same(base[each], again[each]) for each in judged):
            line = Line(
                "repeated forward",
                "inconclusive",
                {},
                "Two equal forwards gave different outputs.",
                "Call torch.use_deterministic_algorithms(True).",
            )
            return CheckResult(title, [line], [], notes, {"seed": seed})
        fine = Runner(model, forward, state, torch.float64)
        lines = [_line(runner, fine, inputs, base, judged, probe, seed) for probe in probes]
        findings = []
        failed = [(line, probe) for line, probe in zip(lines, probes, strict=True) if line.verdict == "fail"]
        if failed:
            where = _first_leak(runner, inputs, failed[0][1], place, seed)
            worst = max((line for line, _ in failed), key=lambda each: float(each.measured["max_abs"]))
            message = f"{title}: changing {worst.subject} moved other outputs by up to {worst.measured['max_abs']:.3g}."
            advice = _advice(rule, where)
            lines = [
                line
                if line.verdict != "fail"
                else Line(line.subject, "fail", line.measured, f"{line.reason}{_at(where)}", advice)
                for line in lines
            ]
            evidence = {
                **worst.measured,
                "module": where[0] if where else None,
                "failed": len(failed),
                "of": len(probes),
            }
            findings.append(a_finding(rule, message + _at(where), advice, evidence))
    settings = {"seed": seed, "dtype": short_name(base[judged[0]].dtype), "dim": place.dim}
    return CheckResult(title, lines, findings, notes, settings)


def _changed(inputs: Any, probe: Probe, seed: int) -> Any:
    return probe.change(inputs, torch.Generator().manual_seed(seed))


def _line(
    runner: Runner,
    fine: Runner,
    inputs: Any,
    base: Sequence[Tensor],
    judged: Sequence[int],
    probe: Probe,
    seed: int,
) -> Line:
    altered = _changed(inputs, probe, seed)
    if all(_same(one, two) for one, two in zip(_tensors(inputs), _tensors(altered), strict=True)):
        return Line(probe.name, "skipped", {}, "The inputs there cannot be changed: all values are equal.")
    moved, reached = _moved(base, runner.run(altered), judged, probe.kept)
    measured = {"max_abs": moved, "outputs_moved": reached}
    if moved == 0:
        return Line(probe.name, "pass", measured)
    try:
        exact, fine_out = fine.run(inputs), fine.run(altered)
    except Exception:  # a float64 copy does not run: rounding is then told from a leak in the model's own dtype
        exact, fine_out = list(base), runner.run(altered)
    largest = max(float(exact[place].double().abs().max()) for place in judged)
    unit = FORMATS[exact[judged[0]].dtype].unit_roundoff
    apart, _ = _moved(exact, fine_out, judged, probe.kept)
    if apart <= ROUNDING * unit * largest:
        return Line(probe.name, "pass", measured, "Only rounding: the change shrinks with the dtype.")
    return Line(
        probe.name, "fail", measured, f"{reached} of the outputs that must not follow moved by up to {moved:.3g}."
    )


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _moved(
    before: Sequence[Tensor], after: Sequence[Tensor], judged: Sequence[int], kept: Callable[[Tensor], Tensor]
) -> tuple[float, int]:
    """Largest change among the outputs that must stay, and how many moved."""
    largest, count = 0.0, 0
    for place in judged:
        if place >= len(after) or after[place].shape != before[place].shape:
            return float("inf"), before[place].numel()
        one = kept(before[place]).double()
        two = kept(after[place]).double()
        differs = (one != two) & ~(one.isnan() & two.isnan())
        if bool(differs.any()):
            change = (one - two).abs()[differs].nan_to_num(nan=torch.inf)
            largest, count = max(largest, float(change.max())), count + int(differs.sum())
    return largest, count


def _same(one: Tensor, two: Tensor) -> bool:
    return (
        one.shape == two.shape and bool(((one == two) | (one.isnan() & two.isnan())).all())
        if (one.is_floating_point())
        else torch.equal(one, two)
    )


def _first_leak(runner: Runner, inputs: Any, probe: Probe, place: Place, seed: int) -> tuple[str, nn.Module] | None:
    """The first module to finish whose own outputs follow what they must not."""
    before = runner.traced(inputs)
    after = runner.traced(_changed(inputs, probe, seed))
    for (name, module, one), (_, _, two) in zip(before, after, strict=False):
        judged = [number for number, each in enumerate(one) if place.holds(each)]
        if name and judged and _moved(one, two, judged, probe.kept)[0] > 0:
            return name, module
    return None


def _at(where: tuple[str, nn.Module] | None) -> str:
    if where is None:
        return ""
    name, module = where
    mode = " in training mode" if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training else ""
    return f" The first module to leak is {name} ({type(module).__name__}{mode})."


def _advice(rule: str, where: tuple[str, nn.Module] | None) -> str:
    if rule == "GK604":
        return (
            "Mask later positions in attention, pad convolutions on the left only, and keep sums along time cumulative."
        )
    if rule == "GK608":
        return (
            "Give attention a mask of documents (or cu_seqlens, or position_ids that start anew), mask padding in"
            " attention and pooling, and keep convolutions, recurrences and normalization within a document."
        )
    if where is not None and isinstance(where[1], nn.modules.batchnorm._BatchNorm):
        return "Batch normalization mixes samples in training mode by design; check in eval mode, or use GroupNorm."
    return "Look for a reduction, a view or a transpose across the batch dimension."

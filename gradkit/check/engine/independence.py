"""`gradkit.check.batch_independence` and `.causality`: does an output depend on what it must not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from gradkit.check.engine.batches import Forward, call_model, size_along
from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.precision import FORMATS, short_name
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.result import CheckResult, Line
from gradkit.check.engine.result import finding as a_finding
from gradkit.check.engine.runner import Runner

PROBES = 16
"""At most so many samples or positions are changed, spread evenly; the first and the last are among them."""

ROUNDING = 2.0**14
"""A change beyond this many unit round-offs of the largest output, in float64, is no rounding: kernels that work on
other shapes or orders than before differ by a few, and a real dependence does not shrink with the dtype."""


@dataclass(frozen=True)
class _Probe:
    """One change of the inputs, and the part of the outputs that must not follow.

    Attributes:
        name: Such as `sample 3`.
        change: Gives the changed copy of a tensor.
        kept: The indices along the dimension whose outputs must stay.
    """

    name: str
    change: Callable[[Tensor, torch.Generator], Tensor]
    kept: Tensor


def batch_independence(
    model: nn.Module, inputs: Any, *, forward: Forward | None = None, dim: int = 0, seed: int = 0
) -> CheckResult:
    """Change one sample at a time and see whether the outputs of the others stay, bit for bit.

    Args:
        model: Any module, in the mode to be checked; it is copied.
        inputs: What it takes, at least two samples; called as `model(inputs)`, `model(*inputs)` or `model(**inputs)`.
        forward: How to call it instead: takes the model and the inputs.
        dim: Where the samples are, in inputs and outputs.
        seed: Of the new values.

    Returns:
        One line per changed sample; when one fails, with the first module whose outputs leak.

    Raises:
        CheckInputError: Fewer than two samples, or no output with that dimension.
    """
    size = size_along(inputs, dim, "samples")
    title = f"batch independence of {type(model).__name__}"

    def change(place: int) -> Callable[[Tensor, torch.Generator], Tensor]:
        def one(values: Tensor, generator: torch.Generator) -> Tensor:
            changed = values.clone()
            other = values.select(dim, (place + 1) % size)
            part = changed.select(dim, place)
            if values.is_floating_point():
                noise = torch.randn(part.shape, generator=generator, dtype=torch.float64).to(values)
                other = 1.5 * other + _typical(values) * noise
            part.copy_(other)
            return changed

        return one

    everyone = torch.arange(size)
    probes = [_Probe(f"sample {place}", change(place), everyone[everyone != place]) for place in _spread(size)]
    return _examine(model, inputs, forward, dim, size, probes, title, "GK603", seed)


def causality(
    model: nn.Module, inputs: Any, *, forward: Forward | None = None, dim: int = 1, seed: int = 0
) -> CheckResult:
    """Change everything after a position and see whether the outputs up to it stay, bit for bit.

    Boolean tensors are left as they are, because they are masks; integers are replaced by other values that occur.

    Args:
        model: Any module, in the mode to be checked; it is copied.
        inputs: What it takes; called as `model(inputs)`, `model(*inputs)` or `model(**inputs)`.
        forward: How to call it instead: takes the model and the inputs.
        dim: Where the positions are, in inputs and outputs.
        seed: Of the new values.

    Returns:
        One line per position; when one fails, with the first module whose outputs leak.

    Raises:
        CheckInputError: Fewer than two positions, or no output with that dimension.
    """
    size = size_along(inputs, dim, "positions")
    title = f"causality of {type(model).__name__}"

    def change(place: int) -> Callable[[Tensor, torch.Generator], Tensor]:
        def one(values: Tensor, generator: torch.Generator) -> Tensor:
            if values.dtype is torch.bool:
                return values
            changed = values.clone()
            later = changed.narrow(dim, place + 1, size - place - 1)
            if values.is_floating_point():
                noise = torch.randn(later.shape, generator=generator, dtype=torch.float64).to(values)
                later.copy_(later + _typical(values) * (1 + noise))
            else:
                known = values.unique()
                ranks = torch.searchsorted(known, later.contiguous())
                steps = torch.randint(1, max(2, known.numel()), later.shape, generator=generator).to(ranks)
                later.copy_(known[(ranks + steps) % known.numel()])
            return changed

        return one

    probes = [_Probe(f"positions after {place}", change(place), torch.arange(place + 1)) for place in _spread(size - 1)]
    return _examine(model, inputs, forward, dim, size, probes, title, "GK604", seed)


def _spread(size: int) -> list[int]:
    if size <= PROBES:
        return list(range(size))
    return sorted({round(each * (size - 1) / (PROBES - 1)) for each in range(PROBES)})


def _typical(values: Tensor) -> float:
    size = float(values.double().square().mean().sqrt())
    return size if size > 0 else 1.0


def _examine(
    model: nn.Module,
    inputs: Any,
    forward: Forward | None,
    dim: int,
    size: int,
    probes: Sequence[_Probe],
    title: str,
    rule: str,
    seed: int,
) -> CheckResult:
    forward = forward or call_model
    with random_state_kept() as state:
        runner = Runner(model, forward, state, None)
        base = runner.run(inputs)
        judged = [place for place, each in enumerate(base) if each.dim() > dim and each.shape[dim] == size]
        if not judged:
            shapes = ", ".join(str(tuple(each.shape)) for each in base) or "none"
            raise CheckInputError(
                f"no output has {size} entries along dimension {dim}; the floating outputs: {shapes}."
            )
        notes = [
            f"output {place} of shape {tuple(each.shape)} has no such dimension and was left out."
            for place, each in enumerate(base)
            if place not in judged
        ]
        again = runner.run(inputs)
        if any(not _same(base[place], again[place]) for place in judged):
            line = Line(
                "repeated forward",
                "inconclusive",
                {},
                "Two equal forwards gave different outputs.",
                "Call torch.use_deterministic_algorithms(True).",
            )
            return CheckResult(title, [line], [], notes, {"seed": seed})
        fine = Runner(model, forward, state, torch.float64)
        lines = [_line(runner, fine, inputs, base, judged, dim, size, probe, seed) for probe in probes]
        findings = []
        failed = [(line, probe) for line, probe in zip(lines, probes, strict=True) if line.verdict == "fail"]
        if failed:
            where = _first_leak(runner, inputs, failed[0][1], dim, size, seed)
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
    settings = {"seed": seed, "dtype": short_name(base[judged[0]].dtype), "dim": dim}
    return CheckResult(title, lines, findings, notes, settings)


def _changed(inputs: Any, probe: _Probe, dim: int, size: int, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)

    def one(leaf: Any) -> Any:
        along = isinstance(leaf, Tensor) and leaf.dim() > dim and leaf.shape[dim] == size
        return probe.change(leaf.detach().cpu(), generator).to(leaf.device) if along else leaf

    return tree_map(one, inputs)


def _line(
    runner: Runner,
    fine: Runner,
    inputs: Any,
    base: Sequence[Tensor],
    judged: Sequence[int],
    dim: int,
    size: int,
    probe: _Probe,
    seed: int,
) -> Line:
    altered = _changed(inputs, probe, dim, size, seed)
    if all(_same(one, two) for one, two in zip(_tensors(inputs), _tensors(altered), strict=True)):
        return Line(probe.name, "skipped", {}, "The inputs there cannot be changed: all values are equal.")
    moved, reached = _moved(base, runner.run(altered), judged, dim, probe.kept)
    measured = {"max_abs": moved, "outputs_moved": reached}
    if moved == 0:
        return Line(probe.name, "pass", measured)
    try:
        exact, fine_out = fine.run(inputs), fine.run(altered)
    except (RuntimeError, TypeError):
        exact, fine_out = list(base), runner.run(altered)
    largest = max(float(exact[place].double().abs().max()) for place in judged)
    unit = FORMATS[exact[judged[0]].dtype].unit_roundoff
    apart, _ = _moved(exact, fine_out, judged, dim, probe.kept)
    if apart <= ROUNDING * unit * largest:
        return Line(probe.name, "pass", measured, "Only rounding: the change shrinks with the dtype.")
    return Line(
        probe.name, "fail", measured, f"{reached} of the outputs that must not follow moved by up to {moved:.3g}."
    )


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _moved(
    before: Sequence[Tensor], after: Sequence[Tensor], judged: Sequence[int], dim: int, kept: Tensor
) -> tuple[float, int]:
    """Largest change among the outputs that must stay, and how many moved."""
    largest, count = 0.0, 0
    for place in judged:
        if place >= len(after) or after[place].shape != before[place].shape:
            return float("inf"), before[place].numel()
        one = before[place].index_select(dim, kept.to(before[place].device)).double()
        two = after[place].index_select(dim, kept.to(before[place].device)).double()
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


def _first_leak(
    runner: Runner, inputs: Any, probe: _Probe, dim: int, size: int, seed: int
) -> tuple[str, nn.Module] | None:
    """The first module to finish whose own outputs follow what they must not."""
    before = runner.traced(inputs)
    after = runner.traced(_changed(inputs, probe, dim, size, seed))
    for (name, module, one), (_, _, two) in zip(before, after, strict=False):
        judged = [place for place, each in enumerate(one) if each.dim() > dim and each.shape[dim] == size]
        if name and judged and _moved(one, two, judged, dim, probe.kept)[0] > 0:
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
    if where is not None and isinstance(where[1], nn.modules.batchnorm._BatchNorm):
        return "Batch normalization mixes samples in training mode by design; check in eval mode, or use GroupNorm."
    return "Look for a reduction, a view or a transpose across the batch dimension."


__all__ = ["batch_independence", "causality"]

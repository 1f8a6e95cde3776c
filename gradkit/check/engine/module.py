"""`gradkit.check.module`: every parameter of a model by a few random directions, and the culprit when one disagrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradkit.check.engine.bounds import FALSE_ALARM
from gradkit.check.engine.carried_state import carried
from gradkit.check.engine.corners import explained_by_corners
from gradkit.check.engine.errors import CheckInputError, MethodError, ReplayError, own_computation
from gradkit.check.engine.judge import Measured, Reference, judge
from gradkit.check.engine.methods import (
    Engine,
    backward_runs,
    build,
    by_reverse,
    quiet,
    random_directions,
    typical_size,
)
from gradkit.check.engine.model_subject import LossFunction, model_subject, parameter_name
from gradkit.check.engine.not_compared import unless_other_outputs, without_gradient
from gradkit.check.engine.precision import FORMATS, short_name
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.result import CheckResult, Line, nondeterminism
from gradkit.check.engine.result import finding as a_finding
from gradkit.check.engine.search import GOAL, LEVELS, STARTS, named_culprits
from gradkit.check.engine.subject import Subject
from gradkit.findings import Finding

MISS_PROBABILITY = 1e-6

MARGIN = 10.0
"""Errors of this many bounds, measured along a direction of unit spread, are those the miss probability speaks of."""

SHARPER = 4
"""When a bound exceeds the derivative itself, so many times the replays draw it again: Student's factor falls."""

BALANCE = 0.03
"""Tensors are balanced within this factor."""

REPLAYS = 8


def directions_for(miss_probability: float, margin: float = MARGIN) -> int:
    """How many Gaussian directions miss an error of `margin` bounds with at most this probability.

    Along a Gaussian direction v an error e of the gradient shows as `e . v`, normal with standard deviation |e|. It is
    missed when that lies within the bound b: probability erf(b / (sqrt(2) |e|)); k directions miss it together
    with that to the power k.

    Example:
        >>> directions_for(1e-6)
        6
    """
    return math.ceil(math.log(miss_probability) / math.log(math.erf(1 / (math.sqrt(2) * margin))))


def module(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Any,
    *,
    miss_probability: float = MISS_PROBABILITY,
    seed: int = 0,
    replays: int = REPLAYS,
    false_alarm: float = FALSE_ALARM,
) -> CheckResult:
    """Check the gradient of every trainable parameter of a model, at its own dtype, at a handful of evaluations.

    The model is deep-copied; parameters, gradients, buffers, modes and random state of the original stay as they are.
    Dropout draws the same mask and batch normalization starts from the same statistics in every evaluation.

    Args:
        model: Any module, in the mode it is to be checked in.
        loss_fn: Takes the model and the batch and returns the scalar loss.
        batch: Whatever `loss_fn` takes; floating tensors in it follow the model's dtype.
        miss_probability: Probability of missing an error of ten bounds; sets the number of directions.
        seed: Of directions and roundings.
        replays: Computations with random rounding per bound, at least 4.
        false_alarm: Probability that rounding alone fails a correct model.

    Returns:
        One line per direction taken together; on failure one per wrong tensor with the worst index. Each tensor's
        `sensitivity` in the settings is the relative error of its gradient that would have been seen.

    Raises:
        CheckInputError: No trainable parameter, a model that cannot be copied, or a loss that is no scalar.
        ValueError: `miss_probability` or `replays` out of range.

    Source: `docs/check/error-bounds.md`, "Random directions".
    """
    if not 0 < miss_probability < 1:
        raise ValueError(f"miss_probability: expected a number between 0 and 1, got {miss_probability!r}.")
    if replays < 4:
        raise ValueError(f"replays: expected at least 4, got {replays!r}.")
    title = f"gradients of {type(model).__name__}"
    with random_state_kept() as state:
        subject = model_subject(model, loss_fn, batch)
        if subject.overwritten:
            names = ", ".join(subject.overwritten)
            raise CheckInputError(f"the forward pass changes {names} in place, so no difference can be taken.")
        found = backward_runs(subject)
        ways = () if isinstance(found, MethodError) else (by_reverse,)
        engine = build(subject, None, seed=seed, replays=replays, false_alarm=false_alarm, methods=ways)
        if isinstance(found, MethodError):
            return _without(engine, title, without_gradient("reverse", found))
        directions = random_directions(subject, directions_for(miss_probability), seed)
        try:
            result = _examined(engine, found, directions, title)
        except ReplayError as error:
            return _without(engine, title, without_gradient("reverse", error))
        if result.verdict == "fail" and (kept := carried(model, loss_fn, batch, state)):
            return _carrying(engine, title, result, kept)
        return result


def _carrying(engine: Engine, title: str, result: CheckResult, names: Sequence[str]) -> CheckResult:
    reason = (
        f"The gradient and the differences disagree, and the forward pass changes {', '.join(names)} and uses the new"
        " values: differences see that change, and autograd is not meant to."
    )
    advice = "Check in eval mode, where the buffers stay as they are."
    line = Line(result.lines[0].subject, "inconclusive", result.lines[0].measured, reason, advice)
    return CheckResult(title, [line], [], engine.subject.notes, result.settings, result.columns)


def _without(engine: Engine, title: str, line: Line) -> CheckResult:
    return CheckResult(title, [line], _findings(title, [line], engine), engine.subject.notes, _settings(engine, 0))


def _balanced(subject: Subject, directions: Tensor, gradient: Tensor) -> Tensor:
    """The directions with every tensor weighted so that none drowns in the others' rounding.

    A tensor whose gradient is a tenth of the others' would be judged by a bound made for them. Tensors with a large
    share of the derivative are scaled down, by at most `BALANCE`; scaling down further would drown all of them in the
    rounding of the loss.
    """
    shares = [
        float(gradient[slot.span].nan_to_num(0.0, 0.0, 0.0).norm()) * typical_size(subject.point[slot.span])
        for slot in subject.slots
    ]
    target = max(min((each for each in shares if each > 0), default=0.0), BALANCE * max(shares))
    balanced = directions.clone()
    for slot, share in zip(subject.slots, shares, strict=True):
        if share > target:
            balanced[:, slot.span] *= target / share
    return balanced


def _examined(engine: Engine, gradient: Tensor, directions: Tensor, title: str) -> CheckResult:
    subject = engine.subject
    again = by_reverse(subject, None)
    with own_computation(f"the backward pass in {short_name(engine.fine)}"):
        outputs, formula = subject.reverse(engine.fine)
    directions = _balanced(subject, directions, formula)
    measured, noise = _measured(engine, directions, gradient, outputs, formula)
    goal = GOAL * float(measured.formula.nan_to_num(0.0, 0.0, 0.0).abs().max())
    steps = ((each, 1.0) for each in directions)
    reference = engine.differences(steps, goal, levels=LEVELS, starts=STARTS, noise=noise)
    cause = None
    if not bool(gradient.isfinite().all()):
        cause = engine.trace(lambda: by_reverse(subject, None))
    natural = _natural(directions, formula)
    count = f"{subject.size} elements in {len(subject.slots)} tensors, {len(directions)} directions"
    line = judge(
        f"reverse, {count}",
        measured,
        reference,
        fmt=engine.fmt,
        fine=engine.fine,
        shape=None,
        cause=cause,
        scale=natural,
    )
    if line.measured["kind"] == "blunt":
        measured, _ = _measured(engine, directions, gradient, outputs, formula, replays=SHARPER * engine.replays)
        line = judge(line.subject, measured, reference, fmt=engine.fmt, fine=engine.fine, shape=None, scale=natural)
    line = unless_other_outputs(subject, [explained_by_corners(engine, line)])[0]
    used = subject.evaluations
    lines, findings = [line], []
    if (repeated := nondeterminism(title, gradient, again)) is not None:
        findings.append(repeated)
    if line.verdict == "fail" and not math.isnan(line.measured["value"]):
        lines += named_culprits(engine, directions, measured, reference, gradient)
    settings = _settings(engine, used) | {"sensitivity": _sensitivity(engine, directions, measured, reference, formula)}
    columns = ("max_abs", "max_rel", "max_ulp", "of_bound")
    return CheckResult(title, lines, [*findings, *_findings(title, lines, engine)], subject.notes, settings, columns)


def _natural(directions: Tensor, gradient: Tensor) -> float:
    """Standard deviation of the derivative along such a direction: what its bound is measured by."""
    return float((directions * gradient).norm(dim=1).nan_to_num(0.0, 0.0, 0.0).max())


def _measured(
    engine: Engine,
    directions: Tensor,
    gradient: Tensor,
    outputs: Tensor,
    formula: Tensor,
    replays: int | None = None,
) -> tuple[Measured, tuple[Tensor, Tensor]]:
    """The gradient along the directions, and the loss with the bound of its rounding, from the same replays."""
    subject, tests = engine.subject, len(directions) + outputs.numel()

    def compute() -> Tensor:
        with quiet():
            loss, found = subject.reverse(engine.fine)
        return torch.cat([loss, directions @ found])

    center = torch.cat([outputs, directions @ formula])
    fine = FORMATS[engine.fine]
    fine_rounding = engine.spread(compute, center, engine.fine_bits, fine, replays).bound(
        fine, tests=tests, false_alarm=engine.false_alarm
    )
    noise = (outputs, fine_rounding[: outputs.numel()])
    formula_rounding = fine_rounding[outputs.numel() :]
    if engine.same:
        return Measured(directions @ gradient, formula_rounding, directions @ formula, formula_rounding), noise
    coarse = engine.spread(compute, center, engine.bits, engine.fmt, replays).bound(
        engine.fmt, tests=tests, false_alarm=engine.false_alarm
    )
    return Measured(directions @ gradient, coarse[outputs.numel() :], directions @ formula, formula_rounding), noise


def _settings(engine: Engine, evaluations: int) -> dict[str, Any]:
    return {
        "dtype": short_name(engine.subject.dtype),
        "reference_dtype": short_name(engine.fine),
        "device": str(engine.subject.device),
        "seed": engine.seed,
        "parameters": engine.subject.size,
        "evaluations": evaluations,
        "false_alarm": engine.false_alarm,
    }


def _findings(title: str, lines: Sequence[Line], engine: Engine) -> list[Finding]:
    failed = [line for line in lines if line.verdict == "fail"]
    named = failed[1:] or failed
    return [
        a_finding(
            "GK601",
            f"{title}: {line.subject} gave a wrong gradient in {short_name(engine.subject.dtype)}. {line.reason}",
            line.advice or "Correct the backward pass of the operator this parameter goes into.",
            dict(line.measured),
        )
        for line in named
    ]


def _sensitivity(
    engine: Engine, directions: Tensor, measured: Measured, reference: Reference, gradient: Tensor
) -> dict[str, float]:
    """Per tensor the relative error of its gradient that these directions show, median over the directions."""
    bound = float((reference.error + measured.formula_rounding).median())
    found = {}
    for slot in engine.subject.slots:
        spread = float(directions[:, slot.span].square().mean().sqrt()) if slot.numel else 0.0
        norm = float(gradient[slot.span].norm())
        found[parameter_name(slot)] = MARGIN * bound / (spread * norm) if spread * norm > 0 else math.inf
    return found

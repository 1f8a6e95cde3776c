"""`gradkit.check.compiled`: the gradients of a compiled model against those of the model as it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from gradkit.check.engine.batches import cast, twin_of
from gradkit.check.engine.bounds import FALSE_ALARM
from gradkit.check.engine.corners import explained_by_corners
from gradkit.check.engine.errors import CheckInputError, MethodError, ReplayError
from gradkit.check.engine.methods import Engine, backward_runs, build, by_reverse
from gradkit.check.engine.model_subject import LossFunction, loss_of, model_subject, parameter_name
from gradkit.check.engine.not_compared import without_gradient
from gradkit.check.engine.precision import short_name, spacing
from gradkit.check.engine.random_state import RandomState, random_state_kept
from gradkit.check.engine.result import CheckResult, Line
from gradkit.check.engine.result import finding as a_finding
from gradkit.check.engine.shares import of_bound, shares

REPLAYS = 8

NAMED = 5
"""At most so many parameters get a line of their own."""

MAY_CAUSE = (
    "Compile parts of the model alone to find the operator. A custom operator's fake kernel or a mutation that the"
    " compiler does not see may cause it."
)

Compiler = Callable[[nn.Module], Callable[..., Any]]


def compiled(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Any,
    *,
    compiler: Compiler | None = None,
    seed: int = 0,
    replays: int = REPLAYS,
    false_alarm: float = FALSE_ALARM,
) -> CheckResult:
    """Compare the gradients of the compiled model with the eager ones, each element within the rounding of both.

    The model is copied twice; the original, its gradients and the random state stay as they are.

    Args:
        model: Any module, in the mode it trains in, not compiled yet.
        loss_fn: Takes the model and the batch and returns the scalar loss.
        batch: Whatever `loss_fn` takes.
        compiler: Takes a module and returns the compiled one, such as
            `lambda model: torch.compile(model, mode="max-autotune")`; None for `torch.compile` with the random numbers
            of eager mode.
        seed: Of the random roundings.
        replays: Computations with random rounding per bound, at least 4.
        false_alarm: Probability that rounding alone makes them differ.

    Returns:
        One line for the gradient, and one for each of the worst parameters when it fails.

    Raises:
        CheckInputError: No trainable parameter, a model that cannot be copied, or a loss without a gradient.
        ValueError: `replays` out of range.
    """
    if replays < 4:
        raise ValueError(f"replays: expected at least 4, got {replays!r}.")
    title = f"compiled {type(model).__name__} against eager"
    with random_state_kept() as state:
        subject = model_subject(model, loss_fn, batch)
        eager = backward_runs(subject)
        if isinstance(eager, MethodError):
            raise CheckInputError(f"the eager model gives no gradient: {eager}.") from eager
        engine = build(subject, None, seed=seed, replays=replays, false_alarm=false_alarm, methods=(by_reverse,))
        try:
            bound = 2 * engine.measure(by_reverse, subject.size, value=eager).rounding.cpu()
        except ReplayError as error:
            return CheckResult(title, [without_gradient("gradient", error)], [], subject.notes)
        try:
            found, graphs = _by_compiled(model, loss_fn, batch, compiler or _with_eager_random_numbers, state, engine)
        except Exception as error:  # a compiler may raise anything, and the eager gradient is there
            told = " ".join(str(error).split())[:200].rstrip(".")
            reason = f"The compiled model gave no gradient: {type(error).__name__}: {told}."
            return CheckResult(title, [Line("gradient", "inconclusive", {}, reason)], [], subject.notes)
        lines = _judged(engine, eager.cpu(), found, bound, graphs)
    findings = [
        a_finding("GK607", f"{title}: {line.subject}: {line.reason}", line.advice, dict(line.measured))
        for line in lines
        if line.verdict == "fail"
    ]
    settings = {"dtype": short_name(subject.dtype), "device": str(subject.device), "seed": seed, "graphs": graphs}
    return CheckResult(
        title, lines, findings, subject.notes, settings, ("elements", "max_abs", "max_rel", "max_ulp", "of_bound")
    )


def _with_eager_random_numbers(model: nn.Module) -> Callable[..., Any]:
    found: Callable[..., Any] = torch.compile(model, options={"fallback_random": True})
    return found


def _by_compiled(
    model: nn.Module, loss_fn: LossFunction, batch: Any, compiler: Compiler, state: RandomState, engine: Engine
) -> tuple[Tensor, int]:
    """The gradient by the compiled model, `(n,)`, float64, and how many graphs were compiled for it."""
    from torch._dynamo.utils import counters

    before = counters["stats"]["unique_graphs"]
    twin, given = twin_of(model), cast(batch)
    state.restore()
    outputs = loss_of(loss_fn, compiler(twin), given)  # type: ignore[arg-type]
    loss = next(each for each in tree_flatten(outputs)[0] if isinstance(each, Tensor) and each.is_floating_point())
    loss.backward()
    by_name = dict(twin.named_parameters())
    parts = []
    for slot in engine.subject.slots:
        grad = by_name[parameter_name(slot)].grad
        parts.append(torch.zeros(slot.numel, dtype=torch.float64) if grad is None else _flat(grad))
    return torch.cat(parts), counters["stats"]["unique_graphs"] - before


def _flat(grad: Tensor) -> Tensor:
    dense = grad if grad.layout is torch.strided else grad.to_dense()
    return dense.detach().double().reshape(-1).cpu()


def _judged(engine: Engine, eager: Tensor, found: Tensor, bound: Tensor, graphs: int) -> list[Line]:
    error = torch.where(eager == found, 0.0, (found - eager).abs())
    wrong = ~(error <= bound) & ~(eager.isnan() & found.isnan())
    numbers = _numbers(engine, error, eager, bound)
    if graphs == 0:
        reason = "Nothing was compiled: the compiler made no graph of this model."
        return [Line("gradient", "inconclusive", numbers, reason, "Look for torch.compiler.disable or a graph break.")]
    if not bool(wrong.any()):
        return [Line("gradient", "pass", numbers)]
    if engine.subject.draws:
        reason = "The gradients differ, and the loss draws random numbers, which a compiler may draw again."
        advice = "Check in eval mode, or with a compiler that uses the random numbers of eager mode (fallback_random)."
        return [Line("gradient", "inconclusive", numbers, reason, advice)]
    worst = sorted(
        (slot for slot in engine.subject.slots if bool(wrong[slot.span].any())),
        key=lambda slot: float(shares(error[slot.span], bound[slot.span]).max()),
        reverse=True,
    )
    crossed = explained_by_corners(engine, Line("gradient", "fail", {**numbers, "kind": "rounding"}))
    if crossed.verdict == "inconclusive":
        reason = "The gradients differ, and the point lies so near a corner that rounding decides on which side it is."
        return [dataclasses.replace(crossed, reason=reason, advice="Move the point, or check in a finer dtype.")]
    lines = []
    for slot in worst[:NAMED]:
        place = int(shares(error[slot.span], bound[slot.span]).argmax())
        index = tuple(int(each) for each in torch.unravel_index(torch.tensor(place), slot.shape))
        one, two, at_most = (float(each[slot.span][place]) for each in (found, eager, bound))
        measured = {
            **_numbers(engine, error[slot.span], eager[slot.span], bound[slot.span]),
            "index": index,
            "value": one,
            "reference": two,
            "bound": at_most,
        }
        reason = (
            f"{one:.6g} at {index} where eager mode gives {two:.6g}: rounding on both sides explains {at_most:.3g}."
        )
        lines.append(Line(f"gradient of {parameter_name(slot)}", "fail", measured, reason, MAY_CAUSE))
    return lines


def _numbers(engine: Engine, error: Tensor, eager: Tensor, bound: Tensor) -> dict[str, Any]:
    nonzero = eager != 0
    return {
        "elements": error.numel(),
        "max_abs": float(error.max()),
        "max_rel": float((error / eager.abs())[nonzero].max()) if bool(nonzero.any()) else 0.0,
        "max_ulp": float((error / spacing(eager, engine.fmt)).max()),
        "of_bound": of_bound(error, bound),
    }

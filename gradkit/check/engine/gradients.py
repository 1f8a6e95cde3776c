"""`gradkit.check.gradients`: a gradient by hand, by reverse and by forward mode against differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradkit.check.engine.backward import Graph, by_outputs, same
from gradkit.check.engine.bounds import FALSE_ALARM, REPLAYS
from gradkit.check.engine.corners import explained_by_corners
from gradkit.check.engine.errors import CheckInputError, ReplayError
from gradkit.check.engine.judge import Measured, Reference, judge
from gradkit.check.engine.methods import (
    FORWARD_REPLAYS,
    GOAL,
    Engine,
    Method,
    MethodError,
    backward_runs,
    build,
    by_forward,
    by_hand,
    by_reverse,
    random_directions,
    unit_vectors,
)
from gradkit.check.engine.not_compared import overwritten, unless_other_outputs, without_gradient
from gradkit.check.engine.precision import format_of, short_name
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.result import CheckResult, Line, nondeterminism
from gradkit.check.engine.result import finding as a_finding
from gradkit.check.engine.second_order import first_gradient
from gradkit.check.engine.subject import Function, Subject
from gradkit.errors import did_you_mean
from gradkit.findings import Finding

METHODS = ("manual", "reverse", "forward", "differences")

ELEMENTWISE = 256
"""Up to this many input elements every one is differenced by itself; beyond, random directions are."""

COLUMNS = ("elements", "max_abs", "max_rel", "max_ulp", "of_bound")

FORWARD_DIRECTIONS = 3
"""Each costs one evaluation per replay; three dense ones miss a wrong formula only by a coincidence."""

DIRECTIONS = 6
"""Misses an error of 10 bounds with probability below 1e-6; see `gradkit.check.module`."""


def gradients(
    fn: Function,
    inputs: Any,
    manual: Function | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    methods: Sequence[str] = METHODS,
    order: int = 1,
    cotangent: Any = None,
    reference: Function | None = None,
    seed: int = 0,
    elementwise: int = ELEMENTWISE,
    replays: int = REPLAYS,
    false_alarm: float = FALSE_ALARM,
    name: str | None = None,
) -> CheckResult:
    """Compare every way to get a function's gradient with central differences, each within the bound of its error.

    The derivative is that of `sum(cotangent * fn(inputs))` by the floating inputs (only those that require gradients,
    when any does). The reference are differences of the same function in float64, or the finest dtype it runs in.
    Nothing passed in is changed, and the random state is as before.

    Args:
        fn: The function; called as `fn(*inputs)`, `fn(**inputs)` or `fn(inputs)` for a tuple or list, a dictionary,
            or a tensor. May draw random numbers: every call starts from the same state.
        inputs: The point: tensors of any shape, strides and dtype and other values, nested as the function takes them.
        manual: The hand-written gradient: takes what `fn` takes (and the keyword `cotangent` when one is given) and
            returns one tensor per differentiated input, shaped like it; None among them stands for zeros.
        dtype: What floating inputs are cast to; None keeps theirs. float64, float32, bfloat16 or float16.
        device: Where to compute; None leaves the inputs where they are.
        methods: Any of `manual`, `reverse`, `forward`; `differences` is always the reference.
        order: 1 for the gradient, 2 for the gradient of the gradient along a random direction.
        cotangent: For outputs that are not one scalar: what they are contracted with, or `"random"`.
        reference: What the differences are taken of instead. The same function in another form, for a point where `fn`
            itself overflows or divides 0 by 0, or for a kernel that runs in a coarse dtype only; or the function
            whose gradient the backward pass is meant to give, where that is not `fn`: the identity for a
            straight-through estimator, `lambda x: -x` for a gradient reversal.
        seed: Of random directions, cotangents and roundings.
        elementwise: Up to this many input elements each is differenced by itself, at eight evaluations or more.
        replays: Computations with random rounding per bound, at least 4; more make tighter bounds.
        false_alarm: Probability that rounding alone fails a correct function.
        name: Title of the result.

    Returns:
        One line per method and input: largest absolute, relative and ULP error, the index of the worst element, its
        bound, and the verdict pass, fail or inconclusive.

    Raises:
        CheckInputError: The function, its inputs or the hand-written gradient cannot be checked; says why.
        ValueError: `order`, `methods`, `replays` or `false_alarm` out of range.

    Example:
        >>> import torch
        >>> result = gradients(lambda x: x**2, torch.tensor(3.0), manual=lambda x: 2 * x, dtype=torch.float32)
        >>> result.verdict
        'pass'
        >>> gradients(lambda x: x**2, torch.tensor(3.0), manual=lambda x: x, dtype=torch.float32).verdict
        'fail'

    Source: `docs/check/error-bounds.md` derives every bound.
    """
    _check_arguments(manual, methods, order, replays, false_alarm)
    title = name or f"gradients of {getattr(fn, '__qualname__', type(fn).__name__)}"
    if dtype is not None:
        format_of(dtype)
    with random_state_kept() as state:
        subject = Subject(fn, inputs, dtype=dtype, device=device, cotangent=cotangent, seed=seed)
        if order == 2:
            fn, inputs, cotangent = first_gradient(subject), _second_inputs(subject), "random"
            manual, title = None, f"second order: {title}"
            try:
                subject = Subject(fn, inputs, cotangent=cotangent, seed=seed + 1)
            except MethodError as error:
                return CheckResult(title, [without_gradient("second order", error)])
            reference = None
        state.restore()
        other = None
        if reference is not None:
            other = Subject(reference, inputs, dtype=dtype, device=device, cotangent=cotangent, seed=seed)
        vectors, missing = _vectors(subject, manual, methods, with_cotangent=cotangent is not None)
        ways = tuple(vectors.values())
        engine = build(subject, other, seed=seed, replays=replays, false_alarm=false_alarm, methods=ways)
        try:
            return _examine(engine, vectors, missing, methods, elementwise, title=title)
        except ReplayError as error:
            return CheckResult(title, [without_gradient("differences", error)], [], subject.notes)


def _check_arguments(
    manual: Function | None, methods: Sequence[str], order: int, replays: int, false_alarm: float
) -> None:
    if isinstance(methods, str):
        raise ValueError(f"methods: expected a sequence of names, got the text {methods!r}; write ({methods!r},).")
    for each in methods:
        if each not in METHODS:
            raise ValueError(
                f"methods: expected any of {', '.join(METHODS)}, got {each!r}.{did_you_mean(each, METHODS)}"
            )
    if not any(each in methods for each in ("reverse", "forward")) and not (manual and "manual" in methods):
        raise ValueError("methods: nothing to compare; name reverse or forward, or give manual=FUNCTION.")
    if order not in (1, 2):
        raise ValueError(f"order: expected 1 or 2, got {order!r}.")
    if replays < 4:
        raise ValueError(f"replays: expected at least 4, got {replays!r}.")
    if not 0 < false_alarm < 1:
        raise ValueError(f"false_alarm: expected a probability between 0 and 1, got {false_alarm!r}.")


def _second_inputs(subject: Subject) -> list[Any]:
    leaves = subject.leaves(None)
    for slot in subject.slots:
        leaves[slot.position].requires_grad_()
    return [*leaves, *(each.clone().requires_grad_() for each in subject.cotangents)]


def _vectors(
    subject: Subject, manual: Function | None, methods: Sequence[str], *, with_cotangent: bool
) -> tuple[dict[str, Method], list[Line]]:
    """The ways to the whole gradient that give one in the dtype of the check, and a line for each that does not."""
    vectors: dict[str, Method] = {}
    missing: list[Line] = []
    if manual is not None and "manual" in methods:
        vectors["manual"] = by_hand(manual, with_cotangent=with_cotangent)
        vectors["manual"](subject, None)
    if "reverse" in methods:
        found = backward_runs(subject)
        if isinstance(found, MethodError):
            missing.append(without_gradient("reverse", found))
        else:
            vectors["reverse"] = by_reverse
    return vectors, missing


def _examine(
    engine: Engine,
    vectors: Mapping[str, Method],
    missing: Sequence[Line],
    methods: Sequence[str],
    elementwise: int,
    *,
    title: str,
) -> CheckResult:
    subject = engine.subject
    lines: list[Line] = list(missing)
    findings: list[Finding] = []
    if subject.overwritten:
        lines.append(overwritten(subject.overwritten))
    whole = subject.size <= elementwise
    directions = None if whole else random_directions(subject, DIRECTIONS, engine.seed)
    projected = {key: _along(compute, directions) for key, compute in vectors.items()}
    tests = max(1, subject.size if whole else DIRECTIONS) * max(1, len(vectors))

    measured: dict[str, Measured] = {}
    for key, compute in projected.items():
        try:
            value = compute(subject, None)
            if key == "reverse":
                lines_again, finding = _repeated(engine, compute, value, title)
                lines += lines_again
                findings += finding
            measured[key] = engine.measure(compute, tests, value=value)
        except MethodError as error:
            lines.append(without_gradient(key, error))
    largest = max(
        (
            float(each.formula.nan_to_num(0.0, 0.0, 0.0).abs().max())
            for each in measured.values()
            if each.formula.numel()
        ),
        default=0.0,
    )
    goal = GOAL * largest
    steps = unit_vectors(subject) if directions is None else ((each, 1.0) for each in directions)
    reference = engine.differences(steps, goal)

    sizes = reference.value[reference.value.isfinite()].abs()
    size = float(sizes.max()) if sizes.numel() else 0.0
    for key, numbers in measured.items():
        cause = None
        if not bool(numbers.value.isfinite().all()):
            cause = engine.trace(lambda compute=vectors[key]: compute(subject, None))  # type: ignore[misc]
        elif key == "reverse" and subject.backward_drew:
            names = " and ".join(sorted(subject.backward_drew))
            cause = f"the backward pass draws random numbers itself (generator: {names})"
        if directions is None:
            for slot in subject.slots:
                lines.append(
                    judge(
                        f"{key}, {slot.name}",
                        numbers.at(slot.span),
                        reference.at(slot.span),
                        fmt=engine.fmt,
                        fine=engine.fine,
                        shape=slot.shape,
                        cause=cause,
                        scale=size,
                    )
                )
        else:
            lines.append(
                judge(
                    f"{key}, {len(directions)} directions",
                    numbers,
                    reference,
                    fmt=engine.fmt,
                    fine=engine.fine,
                    shape=None,
                    cause=cause,
                )
            )
    if "reverse" in measured and len(subject.cotangents) > 1:
        lines.append(_one_output_at_a_time(subject, measured["reverse"], directions))
    if "forward" in methods:
        lines.append(_forward(engine, directions, reference))
    lines = [explained_by_corners(engine, line) for line in lines]
    lines = unless_other_outputs(subject, lines)
    findings += _wrong(title, lines, subject)
    settings = {
        "dtype": short_name(subject.dtype),
        "reference_dtype": short_name(engine.reference_fine),
        "device": str(subject.device),
        "seed": engine.seed,
        "evaluations": subject.evaluations + (engine.reference.evaluations if engine.reference is not subject else 0),
        "false_alarm": engine.false_alarm,
    }
    return CheckResult(title, lines, findings, subject.notes, settings, COLUMNS)


def _along(
    compute: Callable[[Subject, torch.dtype | None], Tensor], directions: Tensor | None
) -> Callable[[Subject, torch.dtype | None], Tensor]:
    if directions is None:
        return compute
    return lambda subject, dtype: directions @ compute(subject, dtype)


def _repeated(
    engine: Engine, compute: Callable[[Subject, torch.dtype | None], Tensor], value: Tensor, title: str
) -> tuple[list[Line], list[Finding]]:
    """A finding when the same computation gives another gradient the second time."""
    again = compute(engine.subject, None)
    finding = nondeterminism(title, value, again)
    if finding is None:
        return [], []
    apart = float(finding.evidence["largest_difference"])
    scale = float(value.abs().max())
    if apart <= 16 * engine.fmt.unit_roundoff * scale * value.numel() ** 0.5:
        # The order of additions on a parallel device; the bounds already allow for it.
        return [], [finding]
    reason = f"The same inputs and random state gave gradients {apart:.3g} apart."
    line = Line("reverse, repeated", "inconclusive", {"max_abs": apart}, reason, finding.remedy)
    return [line], [finding]


def _one_output_at_a_time(subject: Subject, reverse: Measured, directions: Tensor | None) -> Line:
    """Whether the gradients of the outputs add up to the gradient of all: an unused output has no cotangent at all."""
    graph = Graph(subject)

    def compute() -> Tensor:
        found = by_outputs(graph, list(subject.cotangents))
        return found if directions is None else directions.cpu() @ found

    return same(
        "reverse, one output at a time",
        compute,
        reverse.value.cpu(),
        4 * reverse.rounding.cpu(),
        "The gradients of the outputs do not add up to that of all of them.",
        "Where an output is not used its cotangent is zeros, or None without materialize_grads; treat both as zero.",
    )


def _forward(engine: Engine, directions: Tensor | None, reference: Reference) -> Line:
    subject = engine.subject
    if directions is not None:
        rows, target = directions[:FORWARD_DIRECTIONS], reference.at(slice(0, FORWARD_DIRECTIONS))
    elif subject.size <= FORWARD_DIRECTIONS:
        rows, target = torch.eye(subject.size, dtype=torch.float64, device=subject.device), reference
    else:
        # Sums of elements: exact in every dtype, and the reference follows from the one that is there.
        generator = torch.Generator().manual_seed(engine.seed)
        signs = torch.randint(0, 2, (FORWARD_DIRECTIONS, subject.size), generator=generator)
        rows = (2 * signs - 1).double().to(subject.device)
        target = Reference(
            rows @ reference.value,
            rows.abs() @ reference.error,
            rows.clamp_min(0) @ reference.left + rows.clamp_max(0) @ reference.right,
            rows.clamp_min(0) @ reference.right + rows.clamp_max(0) @ reference.left,
            reference.kink.any().expand(len(rows)),
        )
    if len(rows) == 0:
        return Line("forward", "pass", {"elements": 0}, "No elements.")
    try:
        numbers = engine.measure(by_forward(rows), len(rows), replays=min(engine.replays, FORWARD_REPLAYS))
    except MethodError as error:
        return Line("forward", "skipped", {}, f"{str(error)[:1].upper()}{str(error)[1:]}.")
    one_element = directions is None and subject.size <= FORWARD_DIRECTIONS
    shape = (subject.size,) if one_element else None
    named = "forward, every element" if one_element else f"forward, {len(rows)} directions"
    return judge(named, numbers, target, fmt=engine.fmt, fine=engine.fine, shape=shape)


def _wrong(title: str, lines: Sequence[Line], subject: Subject) -> list[Finding]:
    failed = [line for line in lines if line.verdict == "fail"]
    return [
        a_finding(
            "GK601",
            f"{title}: {line.subject} gave a wrong gradient in {short_name(subject.dtype)}. {line.reason}",
            line.advice or "Correct the formula; the index and both values are in the evidence.",
            dict(line.measured),
        )
        for line in failed
    ]


__all__ = ["CheckInputError", "gradients"]

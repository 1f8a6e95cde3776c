"""`gradkit.check.inference`: five ways to run a model without training it, against the tracked forward."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gradkit.check.engine.batches import Forward, call_model, cast, floating, twin_of
from gradkit.check.engine.bounds import FALSE_ALARM
from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.methods import build
from gradkit.check.engine.model_subject import model_subject
from gradkit.check.engine.precision import short_name
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.result import CheckResult, Line
from gradkit.check.engine.result import finding as a_finding

Run = Callable[[Any], Any]

REPEATS = 5
"""Timed forwards per mode, after one that is not timed; the median is reported."""


def inference(
    model: nn.Module,
    inputs: Any,
    *,
    forward: Forward | None = None,
    seed: int = 0,
    false_alarm: float = FALSE_ALARM,
) -> CheckResult:
    """Compare `no_grad`, `inference_mode`, detached and frozen parameters with a tracked forward.

    All five run in eval mode on a copy: tracked, `torch.no_grad()`, `torch.inference_mode()`, parameters replaced by
    `parameter.detach()`, and parameters with `requires_grad_(False)`. Outputs have to be equal bit for bit, or within
    the bound of rounding where another kernel was chosen, and must carry no graph.

    Args:
        model: Any module.
        inputs: What it takes; called as `model(inputs)`, `model(*inputs)` or `model(**inputs)`.
        forward: How to call it instead: takes the model and the inputs.
        seed: Of the random roundings.
        false_alarm: Probability that rounding alone counts as a mismatch.

    Returns:
        One line per mode: largest difference, whether a graph was left, bytes of saved tensors [B] and median
        time of a forward [ms].

    Raises:
        CheckInputError: The model returns no floating tensor.
    """
    forward = forward or call_model
    title = f"inference modes of {type(model).__name__}"
    with random_state_kept() as state:
        twin = twin_of(model).eval()
        batch = cast(inputs)
        measured: dict[str, tuple[list[Tensor], dict[str, Any]]] = {}
        for mode, entered in MODES.items():
            state.restore()
            measured[mode] = _measure(twin, batch, forward, entered)
        tracked = measured["tracked"][0]
        if not tracked:
            raise CheckInputError("the model returns no floating-point tensor, so there is nothing to compare.")
        lines, findings, bounds = [], [], None
        for mode, (outputs, numbers) in measured.items():
            apart = max(
                (
                    float((one - two).abs().max()) if one.numel() else 0.0
                    for one, two in zip(tracked, outputs, strict=True)
                ),
                default=0.0,
            )
            equal = all(torch.equal(one, two) for one, two in zip(tracked, outputs, strict=True))
            line = {"equal": equal, "max_abs": apart, **numbers}
            if mode == "tracked":
                lines.append(Line(mode, "pass", line))
                continue
            if not equal and bounds is None:
                bounds = _rounding(model, inputs, forward, seed, false_alarm)
            within = equal or _within(tracked, outputs, bounds)
            lines.append(_judged(mode, line, within))
        for each in lines:
            if each.verdict == "fail":
                findings.append(
                    a_finding(
                        "GK605",
                        f"{title}: {each.subject}: {each.reason}",
                        each.advice,
                        {"mode": each.subject, **each.measured},
                    )
                )
    settings = {"dtype": short_name(tracked[0].dtype), "seed": seed}
    columns = ("equal", "max_abs", "graph", "saved_bytes", "milliseconds")
    return CheckResult(title, lines, findings, [], settings, columns)


def _measure(
    model: nn.Module, batch: Any, forward: Forward, mode: Callable[..., Any]
) -> tuple[list[Tensor], dict[str, Any]]:
    saved: dict[int, int] = {}
    own = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with mode(model) as run_model:

        def run() -> Any:
            return run_model(lambda: forward(model, batch))

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            outputs = floating(run())
        graph = any(each.requires_grad or each.grad_fn is not None for each in outputs)
        result = [each.detach().clone() for each in outputs]
        del outputs
        seconds = []
        for _ in range(REPEATS):
            _synchronize(result)
            begun = time.perf_counter()
            kept = run()
            _synchronize(result)
            seconds.append(time.perf_counter() - begun)
            del kept
    numbers = {"graph": graph, "saved_bytes": sum(saved.values()), "milliseconds": 1e3 * statistics.median(seconds)}
    # Tensors made under inference_mode cannot be used outside of it; the clone above was made in it.
    with torch.inference_mode(False):
        return [torch.empty_like(each, device=each.device).copy_(each) for each in result], numbers


def _synchronize(tensors: list[Tensor]) -> None:
    if any(each.is_cuda for each in tensors):
        torch.cuda.synchronize()


def _judged(mode: str, measured: dict[str, Any], within: bool) -> Line:
    if measured["graph"]:
        return Line(
            mode,
            "fail",
            measured,
            "The outputs still carry a graph.",
            "Something in the forward switches recording on or makes a leaf that requires gradients.",
        )
    if not within:
        return Line(
            mode,
            "fail",
            measured,
            f"The outputs differ from the tracked forward by {measured['max_abs']:.3g}.",
            "Look for code that asks torch.is_grad_enabled(), requires_grad or is_inference.",
        )
    reason = "" if measured["equal"] else "Another kernel was chosen; the difference is rounding."
    return Line(mode, "pass", measured, reason)


def _rounding(model: nn.Module, inputs: Any, forward: Forward, seed: int, false_alarm: float) -> list[Tensor] | None:
    """Bound of the rounding error of each output, shaped like it; None where it cannot be found."""
    try:
        subject = model_subject(twin_of(model).eval(), forward, inputs, cotangent="random")
    except CheckInputError:
        return None
    engine = build(subject, None, seed=seed, false_alarm=false_alarm)
    center = subject.values(engine.fine)
    spread = engine.spread(lambda: subject.values(engine.fine), center, engine.bits, engine.fmt)
    flat = spread.bound(engine.fmt, tests=center.numel(), false_alarm=false_alarm)
    parts = flat.split([each.numel() for each in subject.outputs_like])
    return [part.view(each.shape) for part, each in zip(parts, subject.outputs_like, strict=True)]


def _within(tracked: list[Tensor], outputs: list[Tensor], bounds: list[Tensor] | None) -> bool:
    if bounds is None or len(bounds) != len(tracked):
        return False
    return all(
        bool(((one.double() - two.double()).abs() <= 2 * bound).all())
        for one, two, bound in zip(tracked, outputs, bounds, strict=True)
    )


@contextmanager
def _tracked(model: nn.Module) -> Iterator[Run]:
    with torch.enable_grad():
        yield lambda call: call()


@contextmanager
def _no_grad(model: nn.Module) -> Iterator[Run]:
    with torch.no_grad():
        yield lambda call: call()


@contextmanager
def _inference_mode(model: nn.Module) -> Iterator[Run]:
    with torch.inference_mode():
        yield lambda call: call()


@contextmanager
def _detached(model: nn.Module) -> Iterator[Run]:
    # The names stay bound to parameters of the module; only the tensors behind them are exchanged for the block.
    detached = {name: each.detach() for name, each in model.named_parameters()}
    with torch.nn.utils.stateless._reparametrize_module(model, detached):
        yield lambda call: call()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[Run]:
    trainable = [each for each in model.parameters() if each.requires_grad]
    for each in trainable:
        each.requires_grad_(False)
    try:
        yield lambda call: call()
    finally:
        for each in trainable:
            each.requires_grad_(True)


MODES: dict[str, Callable[..., Any]] = {
    "tracked": _tracked,
    "no_grad": _no_grad,
    "inference_mode": _inference_mode,
    "detach": _detached,
    "requires_grad_false": _frozen,
}

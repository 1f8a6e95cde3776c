"""`gradkit.check.accumulation`: do K micro-batches give the gradient of the whole batch, and if not, why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from gradkit.check.engine.batches import size_along, twin_of
from gradkit.check.engine.bounds import FALSE_ALARM
from gradkit.check.engine.errors import CheckInputError, MethodError
from gradkit.check.engine.methods import backward_runs, build, by_reverse
from gradkit.check.engine.model_subject import LossFunction, model_subject, parameter_name
from gradkit.check.engine.precision import FORMATS, short_name
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.result import CheckResult, Line
from gradkit.check.engine.result import finding as a_finding
from gradkit.check.engine.shares import of_bound, shares
from gradkit.check.engine.slots import Slot

Step = Callable[[nn.Module, Sequence[Any]], object]

REPLAYS = 8

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
DROPOUTS = (nn.modules.dropout._DropoutNd,)


@dataclass(frozen=True)
class _Gradient:
    value: Tensor
    bound: Tensor
    slots: Sequence[Slot]
    draws: bool
    dtype: torch.dtype


def accumulation(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Any,
    *,
    micro_batches: int | Sequence[Any] = 4,
    weights: Sequence[float] | Callable[[Any], float] | None = None,
    step: Step | None = None,
    seed: int = 0,
    false_alarm: float = FALSE_ALARM,
) -> CheckResult:
    """Compare the accumulated gradient of K micro-batches with the gradient of the whole batch.

    The comparison is one of formulas, so it is made on a float64 copy of the model where that runs. Dropout layers
    are switched off for it, because a mask of the whole batch has no counterpart in the parts.

    Args:
        model: Any module, in the mode it trains in; it is copied.
        loss_fn: Takes the model and a batch and returns the scalar loss.
        batch: The whole batch: tensors that share their first dimension, nested in tuples, lists and dictionaries.
        micro_batches: How many equal parts along the first dimension, or the parts themselves.
        weights: What the training loop multiplies each micro-batch's loss by: numbers, or a function of the
            micro-batch such as its number of tokens (the weights are then divided by their sum). None for 1/K.
        step: The training loop's own accumulation instead: called with a copy of the model and the list of
            micro-batches, it has to leave the gradients in `.grad`. Excludes `weights`.
        seed: Of the random roundings.
        false_alarm: Probability that rounding alone makes them differ.

    Returns:
        One line; when it fails, with the reason: wrong weights (and the right ones), batch normalization, or a loss
        that is no sum over samples.

    Raises:
        CheckInputError: A batch that cannot be split, weights of the wrong number, or a loss that is no scalar.
        ValueError: Both `weights` and `step`.
    """
    if step is not None and weights is not None:
        raise ValueError("weights: `step` does its own weighting; give one of the two.")
    parts = _parts(batch, micro_batches)
    used = _weights(weights, parts)
    title = f"accumulation over {len(parts)} micro-batches of {type(model).__name__}"
    with random_state_kept():
        still, notes = _without_dropout(model)
        whole = _gradient(still, loss_fn, batch, seed, false_alarm)
        each = [_gradient(still, loss_fn, part, seed, false_alarm) for part in parts]
        if any(found.draws for found in (whole, *each)):
            notes.append(
                "the loss draws random numbers, which the parts cannot repeat; the result may differ for that."
            )
        if step is not None:
            total = _by_step(still, step, parts, whole)
            bound = whole.bound + torch.stack([found.bound for found in each]).sum(0)
        else:
            total = sum((w * found.value for w, found in zip(used, each, strict=True)), torch.zeros_like(whole.value))
            bound = whole.bound + sum(abs(w) * found.bound for w, found in zip(used, each, strict=True))
        line = _compared(whole, total, bound, f"{len(parts)} micro-batches")
        findings = []
        if line.verdict == "fail":
            reason, advice = _why(still, loss_fn, batch, parts, whole, each, used, step, seed, false_alarm)
            if any(found.draws for found in (whole, *each)):
                line = Line(
                    line.subject,
                    "inconclusive",
                    line.measured,
                    "The loss draws random numbers.",
                    "Switch them off for the check.",
                )
            else:
                line = Line(line.subject, "fail", line.measured, f"{line.reason} {reason}", advice)
                findings = [a_finding("GK602", f"{title}: {line.reason}", advice, dict(line.measured))]
    settings = {"dtype": short_name(whole.dtype), "seed": seed, "weights": None if step else used}
    return CheckResult(
        title, [line], findings, notes, settings, ("max_abs", "max_rel", "norm_ratio", "cosine", "of_bound")
    )


def _parts(batch: Any, micro_batches: int | Sequence[Any]) -> list[Any]:
    if not isinstance(micro_batches, int):
        if len(micro_batches) == 0:
            raise CheckInputError("micro_batches: expected at least one part, got an empty sequence.")
        return list(micro_batches)
    size = size_along(batch, 0, "samples")
    if not 1 <= micro_batches <= size:
        raise CheckInputError(
            f"micro_batches: expected between 1 and {size}, the number of samples, got {micro_batches}."
        )
    leaves, spec = tree_flatten(batch)
    cut = [
        leaf.tensor_split(micro_batches)
        if isinstance(leaf, Tensor) and leaf.dim() and leaf.shape[0] == size
        else [leaf] * micro_batches
        for leaf in leaves
    ]
    return [tree_unflatten([pieces[number] for pieces in cut], spec) for number in range(micro_batches)]


def _weights(weights: Sequence[float] | Callable[[Any], float] | None, parts: Sequence[Any]) -> list[float]:
    if weights is None:
        return [1.0 / len(parts)] * len(parts)
    if callable(weights):
        counted = [float(weights(part)) for part in parts]
        if sum(counted) == 0:
            raise CheckInputError("weights: the function gave a sum of 0 over all micro-batches.")
        return [count / sum(counted) for count in counted]
    if len(weights) != len(parts):
        raise CheckInputError(f"weights: expected {len(parts)}, one per micro-batch, got {len(weights)}.")
    return [float(weight) for weight in weights]


def _without_dropout(model: nn.Module) -> tuple[nn.Module, list[str]]:
    twin = twin_of(model)
    quieted = [
        name for name, each in twin.named_modules() if isinstance(each, DROPOUTS) and each.training and each.p > 0
    ]
    for name in quieted:
        twin.get_submodule(name).eval()
    return twin, [f"dropout was switched off: {', '.join(quieted)}."] if quieted else []


def _gradient(model: nn.Module, loss_fn: LossFunction, batch: Any, seed: int, false_alarm: float) -> _Gradient:
    subject = model_subject(model, loss_fn, batch)
    found = backward_runs(subject)
    if isinstance(found, MethodError):
        raise CheckInputError(f"{found}.") from found
    engine = build(subject, None, seed=seed, replays=REPLAYS, false_alarm=false_alarm, methods=(by_reverse,))
    value = by_reverse(subject, engine.fine)
    spread = engine.spread(lambda: by_reverse(subject, engine.fine), value, engine.fine_bits, FORMATS[engine.fine])
    bound = spread.bound(FORMATS[engine.fine], tests=value.numel(), false_alarm=false_alarm)
    # Sums over the parts are rounded in other places than those over the whole; the largest element tells the scale.
    floor = 64 * 2.0**-engine.fine_bits * float(value.abs().max()) if value.numel() else 0.0
    return _Gradient(value, bound + floor, subject.slots, subject.draws, engine.fine)


def _by_step(model: nn.Module, step: Step, parts: Sequence[Any], whole: _Gradient) -> Tensor:
    from gradkit.check.engine.batches import cast

    twin = twin_of(model, whole.dtype)
    step(twin, [cast(part, whole.dtype) for part in parts])
    by_name = dict(twin.named_parameters())
    found = []
    for slot in whole.slots:
        grad = by_name[parameter_name(slot)].grad
        found.append(
            torch.zeros(slot.numel, dtype=torch.float64, device=whole.value.device)
            if grad is None
            else grad.detach().double().reshape(-1)
        )
    if all(by_name[parameter_name(slot)].grad is None for slot in whole.slots):
        raise CheckInputError(
            "step: no parameter has a gradient afterwards; it has to call backward and not clear them."
        )
    return torch.cat(found)


def _compared(whole: _Gradient, total: Tensor, bound: Tensor, subject: str) -> Line:
    error = (total - whole.value).abs()
    place = int(shares(error, bound).argmax())
    slot = next(slot for slot in whole.slots if slot.span.start <= place < slot.span.stop)
    index = tuple(int(each) for each in torch.unravel_index(torch.tensor(place - slot.offset), slot.shape))
    norm, other = float(whole.value.norm()), float(total.norm())
    measured = {
        "max_abs": float(error.max()),
        "max_rel": float(error.max() / whole.value.abs().max()) if norm else 0.0,
        "norm_ratio": other / norm if norm else 1.0,
        "cosine": float(total @ whole.value) / (norm * other) if norm * other else 1.0,
        "of_bound": of_bound(error, bound),
        "bound": float(bound[place]),
        "parameter": parameter_name(slot),
        "index": index,
        "value": float(total[place]),
        "reference": float(whole.value[place]),
    }
    if bool((error <= bound).all()):
        return Line(subject, "pass", measured)
    reason = (
        f"{parameter_name(slot)}{list(index)} is {measured['value']:.6g} by micro-batches and"
        f" {measured['reference']:.6g} by the whole batch; rounding explains {measured['bound']:.2g}."
    )
    return Line(subject, "fail", measured, reason)


def _why(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Any,
    parts: Sequence[Any],
    whole: _Gradient,
    each: Sequence[_Gradient],
    used: Sequence[float],
    step: Step | None,
    seed: int,
    false_alarm: float,
) -> tuple[str, str]:
    """The reason in words, and what to do."""
    right = _right_weights(whole, each)
    if right is not None:
        return _about_weights(right, parts, step)
    norms = [name for name, each in model.named_modules() if isinstance(each, BATCH_NORMS) and each.training]
    if norms:
        frozen = twin_of(model)
        for name in norms:
            frozen.get_submodule(name).eval()
        again = _gradient(frozen, loss_fn, batch, seed, false_alarm)
        others = [_gradient(frozen, loss_fn, part, seed, false_alarm) for part in parts]
        if _right_weights(again, others) is not None:
            named = ", ".join(norms)
            return (
                f"The reason is batch normalization ({named}): it uses the statistics of each micro-batch,"
                " and with fixed statistics the two agree.",
                "Use GroupNorm or LayerNorm, or freeze the statistics with .eval(); no weighting can mend it.",
            )
    return (
        "No weights of the micro-batches give the gradient of the whole batch: the loss is no sum over samples,"
        " such as a contrastive loss, a variance or a ratio over the batch.",
        "Compute the coupled part over the whole batch, or accept another objective.",
    )


def _right_weights(whole: _Gradient, each: Sequence[_Gradient]) -> list[float] | None:
    """Weights under which the parts do give the whole, if there are any."""
    parts = torch.stack([found.value for found in each], dim=1)
    if not bool(parts.isfinite().all()):
        return None
    solution = torch.linalg.lstsq(parts.cpu(), whole.value.cpu().unsqueeze(1), driver="gelsd").solution[:, 0]
    rest = (parts.cpu() @ solution - whole.value.cpu()).abs()
    bound = whole.bound.cpu() + sum(abs(float(w)) * found.bound.cpu() for w, found in zip(solution, each, strict=True))
    # The solution itself carries rounding of the system's condition; a hundredfold bound is still tiny beside a reason.
    return [float(weight) for weight in solution] if bool((rest <= 100 * bound).all()) else None


def _about_weights(right: Sequence[float], parts: Sequence[Any], step: Step | None) -> tuple[str, str]:
    given = ", ".join(f"{weight:.4g}" for weight in right)
    said = f"The whole batch is the sum of the micro-batches weighted by {given}"
    if step is not None and all(abs(weight * len(parts) - 1) < 1e-6 for weight in right):
        return (
            f"{said}, which the step does not do.",
            "Divide each loss by the number of micro-batches, and clear gradients first.",
        )
    if all(abs(weight - 1) < 1e-6 for weight in right):
        return f"{said}: the loss is a sum.", "Do not divide the loss of a micro-batch by their number."
    sizes = [_samples(part) for part in parts]
    if all(abs(weight - size / sum(sizes)) < 1e-6 for weight, size in zip(right, sizes, strict=True)):
        return f"{said}: their shares of the samples.", "Weight each micro-batch by its number of samples."
    return (
        f"{said}: a mean over something of which the micro-batches hold unequal numbers, such as tokens that are not"
        " ignored.",
        "Sum the losses of all tokens, and divide by their number in the whole batch.",
    )


def _samples(part: Any) -> int:
    return next((leaf.shape[0] for leaf in tree_flatten(part)[0] if isinstance(leaf, Tensor) and leaf.dim()), 1)

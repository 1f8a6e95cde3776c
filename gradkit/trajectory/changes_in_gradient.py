"""Diagnoses of a step whose weights and samples are the golden ones, but whose loss or gradient is not; no torch."""

from __future__ import annotations

import math

from gradkit.trajectory.pair import Pair, factor_in_words

Found = tuple[str, str, tuple[str, ...]]


def _comes_first(pair: Pair, column: str) -> bool:
    """Whether the present step's first difference is in this column."""
    return pair.step is not None and pair.difference.column == column


def loss(pair: Pair) -> Found | None:
    """The loss differs first."""
    if not _comes_first(pair, "loss") or not _weights_agree(pair):
        return None
    values = pair.values("loss")
    if values is None:
        return None
    change = f"{values[1] - values[0]:+.4g} at step {pair.step}"
    if pair.same("grad_norm_l2") and not pair.differs("grad_weight_cosine"):
        return ("loss-value", f"the loss has a term without gradient, or is reported differently: {change}", ())
    ratio, gradient = pair.ratio("loss"), pair.ratio("grad_norm_l2")
    scaled = ratio is not None and gradient is not None and pair.close(abs(ratio), gradient)
    # Without a look at the weights, a loss and a gradient that differ by little may be those of other weights.
    known = pair.step == 0 or pair.values("weight_norm_l2") is not None
    if ratio is not None and scaled and known and _first_gradients(pair, ratio) in (True, None):
        return ("loss-scaled", f"the loss is multiplied by {factor_in_words(ratio)}{_reduction(pair, ratio)}", ())
    penalty = pair.multiple_of_weights("grad")
    size = pair.values("weight_norm_l2")
    if penalty is not None and size is not None:
        expected = penalty / 2 * size[0] ** 2
        if pair.close(values[1] - values[0], expected, scale=max(abs(expected), abs(values[0]) * 0.05)):
            verb = "is missing" if penalty < 0 else "is new"
            return (
                "missing-term" if penalty < 0 else "added-term",
                f"an L2 penalty of the loss {verb}: {abs(penalty) / 2:.4g} times the squared weights",
                (f"the gradient changed by {penalty:.4g} times the weights, the loss by {change}",),
            )
    return _term(pair, values, change)


def _term(pair: Pair, values: tuple[float, float], change: str) -> Found | None:
    if pair.values("grad_norm_l2") is None or (pair.step != 0 and pair.values("weight_norm_l2") is None):
        return None
    facts = _tensors_that_changed(pair)
    if not _samples_agree(pair):
        facts = (*facts, "the samples were not recorded: other data would look the same")
    if values[1] < values[0]:
        sentence = f"a term of the loss is missing or smaller, or its targets changed: the loss changed by {change}"
        return ("missing-term", sentence, facts)
    sentence = f"the loss has a new or larger term, or other targets: it changed by {change}"
    return ("added-term", sentence, facts)


def gradient(pair: Pair) -> Found | None:
    """The gradient differs first: the loss, where it was recorded, is the golden one."""
    if not (_comes_first(pair, "grad_norm_l2") or _comes_first(pair, "grad_weight_cosine")) or not _weights_agree(pair):
        return None
    values = pair.values("grad_norm_l2")
    if values is None:
        return None
    step = pair.step
    assert step is not None
    if _accumulated(pair, "golden", "now"):
        return (
            "gradients-accumulate",
            f"gradients are not cleared between steps (zero_grad missing): step {step} consumed its own gradient plus "
            f"that of step {step - 1}",
            (),
        )
    if _accumulated(pair, "now", "golden"):
        return (
            "gradients-cleared",
            f"gradients are cleared between steps now; in the golden run step {step} consumed them added up",
            (),
        )
    if (found := _clipped(pair)) is not None:
        return found
    ratio = pair.ratio("grad_norm_l2")
    directions = pair.values("grad_weight_cosine")
    kept = directions is None or pair.close(directions[0], directions[1], scale=1.0)
    turned = directions is not None and pair.close(directions[0], -directions[1], scale=1.0) and not kept
    told = _first_gradients(pair, ratio) if ratio else None
    if directions is None and told is None:
        return ("gradient-of-unknown-direction", _unknown_direction(pair), ())
    if ratio and kept and told in (True, None):
        return (
            "gradients-scaled",
            f"gradients are multiplied by {factor_in_words(ratio)}{_reduction(pair, ratio)} while the loss is the same",
            (),
        )
    if ratio and turned and _first_gradients(pair, -ratio) in (True, None):
        return (
            "gradients-scaled",
            f"gradients are multiplied by {factor_in_words(-ratio)}: they point the other way",
            (),
        )
    if (factor := pair.multiple_of_weights("grad")) is not None:
        verb = "no longer added" if factor < 0 else "added"
        return ("weight-decay", f"weight decay of {abs(factor):.4g} is {verb} to the gradients", ())
    if lost := _without_gradient(pair):
        return ("severed", f"no gradient reaches {lost} any more, at the same loss", ())
    return ("backward", "the backward pass changed: another gradient at the same loss", _tensors_that_changed(pair))


def _unknown_direction(pair: Pair) -> str:
    """What a gradient of another size at the same loss can be, when its direction was not recorded."""
    said = "another gradient at the same loss, of which only the size was recorded: "
    own, before = pair.values("grad_norm_l2"), pair.values("grad_norm_l2", (pair.step or 0) - 1)
    if pair.step == 0 or own is None or before is None:
        return said + "scaled, clipped, another backward pass, or other samples where the weights are zero"
    possible = abs(own[0] - before[0]) <= own[1] <= own[0] + before[0]
    return said + f"scaled, clipped, {'not cleared after the step before, ' * possible}or another backward pass"


def _accumulated(pair: Pair, fresh: str, summed: str) -> bool:
    """Whether one side's gradient is the other's plus that of the step before, which both share."""
    step = pair.step
    if not step:
        return False
    fresh_rows, summed_rows = (
        (pair.golden.rows, pair.now.rows) if fresh == "golden" else (pair.now.rows, pair.golden.rows)
    )
    own, total = fresh_rows[step].get("grad_norm_l2"), summed_rows[step].get("grad_norm_l2")
    before = fresh_rows[step - 1].get("grad_norm_l2")
    cosine = fresh_rows[step].get("grad_previous_cosine")
    if own is None or total is None or before is None or cosine is None:
        return False
    expected = math.sqrt(max(own**2 + before**2 + 2 * cosine * own * before, 0.0))
    return pair.close(total, expected, scale=own + before) and not pair.close(total, own)


def _clipped(pair: Pair) -> Found | None:
    """One side never exceeds a norm the other exceeds, and sits exactly on it there."""
    directions = pair.values("grad_weight_cosine")
    if directions is not None and not pair.close(directions[0], directions[1], scale=1.0):
        return None
    for limited, free, verb in ((pair.now, pair.golden, "clipped"), (pair.golden, pair.now, "no longer clipped")):
        norms = [row["grad_norm_l2"] for row in limited.rows if "grad_norm_l2" in row]
        others = [row["grad_norm_l2"] for row in free.rows if "grad_norm_l2" in row]
        if len(norms) < 2 or not others:
            continue
        limit = max(norms)
        at_limit = sum(norm >= limit * (1 - 1e-4) for norm in norms)
        if at_limit >= 2 and max(others) > limit * 1.001 and pair.step is not None:
            here = limited.rows[pair.step].get("grad_norm_l2", 0.0)
            if here >= limit * (1 - 1e-4):
                return ("gradients-clipped", f"gradients are {verb} by norm at {limit:.4g}", ())
    return None


def _first_gradients(pair: Pair, ratio: float) -> bool | None:
    """Whether the first gradient of every parameter changed by the same factor; None when that cannot be told."""
    if pair.step != 0:
        return None
    largest = max(
        (each.first_gradient[0] for each in pair.golden.parameters.values() if each.first_gradient), default=0
    )
    told = False
    for name, old in pair.golden.parameters.items():
        new = pair.now.parameters.get(name)
        if old.first_gradient is None or new is None or new.first_gradient is None:
            continue
        told = True
        size = max(abs(ratio) * old.first_gradient[0], new.first_gradient[0])
        # The parts of one tensor may cancel; they are held against the largest gradient of all.
        size = max(size, 1e-3 * abs(ratio) * largest)
        for moment, value in enumerate(new.first_gradient):
            expected = old.first_gradient[moment] * (abs(ratio) if moment == 0 else ratio)
            if not pair.close(value, expected, scale=size):
                return False
    return True if told else None


def _tensors_that_changed(pair: Pair) -> tuple[str, ...]:
    if pair.step != 0:
        return ()
    changed: list[str] = []
    same: list[str] = []
    for name, old in pair.golden.parameters.items():
        new = pair.now.parameters.get(name)
        if old.first_gradient is None or new is None:
            continue
        other = new.first_gradient or (0.0, 0.0)
        size = max(old.first_gradient[0], other[0])
        equal = all(
            pair.close(first, second, scale=size) for first, second in zip(old.first_gradient, other, strict=True)
        )
        (same if equal else changed).append(name)
    if not changed or not same:
        return ()
    return (f"gradients that changed: {', '.join(changed[:4])}; unchanged: {', '.join(same[:4])}",)


def _without_gradient(pair: Pair) -> str:
    lost = [
        name
        for name, old in pair.golden.parameters.items()
        if old.first_gradient is not None
        and old.first_gradient[0] > 0
        and (new := pair.now.parameters.get(name)) is not None
        and (new.first_gradient is None or new.first_gradient[0] == 0)
    ]
    return ", ".join(lost[:4])


def _reduction(pair: Pair, ratio: float) -> str:
    """A hint when the factor is the number of samples: sum instead of mean, or the reverse."""
    rows = pair.golden.rows
    count = rows[pair.step or 0].get("samples")
    if count is None or count < 3:
        return ""
    if pair.close(ratio, count):
        return ", the number of samples (a sum instead of a mean)"
    if pair.close(ratio * count, 1.0):
        return ", one over the number of samples (a mean instead of a sum)"
    return ""


def _weights_agree(pair: Pair) -> bool:
    return not (pair.differs("weight_norm_l2") or pair.differs("weight_projection"))


def _samples_agree(pair: Pair) -> bool:
    return pair.same("batch_signature") and pair.same("samples")

"""Diagnoses of what an optimizer makes of its gradient, and of what is left when numbers are few; no torch."""

from __future__ import annotations

from gradkit.trajectory.pair import MOST, Pair, factor_in_words

Found = tuple[str, str, tuple[str, ...]]


def update(pair: Pair) -> Found | None:
    """The update, or the learning rate that was recorded, differs first."""
    column = pair.difference.column
    if pair.step is None or column not in ("update_norm_l2", "update_weight_cosine", "update_grad_cosine", "lr"):
        return None
    since = "" if pair.step == 0 else f" from step {pair.step} on"
    rate, factor = pair.ratio("lr"), pair.ratio("update_norm_l2")
    if (
        column == "lr"
        and (factor is None or not (pair.same("loss") and pair.same("grad_norm_l2")))
        and rate is not None
    ):
        return ("learning-rate", f"the learning rate is multiplied by {factor_in_words(rate)}{since}", ())
    if _same_direction(pair) and factor is not None:
        if rate is None or pair.differs("lr"):
            return (
                "learning-rate",
                f"the learning rate is multiplied by {factor_in_words(factor)}{since}",
                ("the same loss and gradient, and an update in the same direction",),
            )
        return (
            "learning-rate",
            f"updates are multiplied by {factor_in_words(factor)}{since}, as by another learning rate; the one "
            "recorded is unchanged",
            (),
        )
    decay = pair.multiple_of_weights("update")
    if decay is not None:
        return ("weight-decay", _decay(pair, decay), (f"the update changed by {decay:.4g} times the weights",))
    if (momentum := _multiple_of_previous(pair)) is not None:
        return (
            "momentum",
            f"momentum changed by {momentum:+.4g}: the update differs by that multiple of the one before",
            (),
        )
    return by_settings(pair) or (
        "optimizer",
        f"another optimizer, or another setting of it: the update differs{since}",
        (),
    )


def _decay(pair: Pair, change: float) -> str:
    """Removed, added or changed, by the part of each update that lies along the weights."""
    if "weight_decay" in pair.changed_settings:
        old, new = pair.golden.settings.get("weight_decay"), pair.now.settings.get("weight_decay")
        if not new:
            return f"weight decay of {old:g} is removed"
        if not old:
            return f"weight decay of {new:g} is added"
        return f"weight decay is {new:g} instead of {old:g}"
    rate = pair.values("lr")
    size = (
        f"{abs(change) / rate[0]:.4g}" if rate is not None and rate[0] else f"{abs(change):.4g} of the weights a step"
    )
    if change > 0:
        return f"weight decay is {'removed' if _along_gradient(pair, 'now') else 'removed or smaller'}, by {size}"
    return f"weight decay is {'added' if _along_gradient(pair, 'golden') else 'added or larger'}, by {size}"


def _along_gradient(pair: Pair, side: str) -> bool:
    """Whether an update is a multiple of its gradient, as plain gradient descent without decay makes it."""
    row = (pair.golden if side == "golden" else pair.now).rows[pair.step or 0]
    return "update_grad_cosine" in row and pair.close(row["update_grad_cosine"], -1.0, scale=1.0)


def _same_direction(pair: Pair) -> bool:
    """Whether the update points where the golden one does, within what rounding turns a short one by."""
    norms = pair.values("update_norm_l2")
    if norms is None or not all(norms):
        return False
    step = pair.step or 0
    turned = sum(
        pair.bounds.update_rounding(side.rows[step]) / norm
        for side, norm in zip((pair.golden, pair.now), norms, strict=True)
    )
    for name in ("update_grad_cosine", "update_weight_cosine"):
        found = pair.values(name)
        if found is None or abs(found[0] - found[1]) > min(2 * pair.bounds.at_step(step) + turned, MOST / 10):
            return False
    return True


def _multiple_of_previous(pair: Pair) -> float | None:
    """The c for which update now = golden + c * previous update, when norm and inner product agree on it."""
    if not pair.step:
        return None
    before = pair.values("update_norm_l2", pair.step - 1)
    norms = pair.values("update_norm_l2")
    cosines = pair.values("update_previous_cosine")
    if before is None or norms is None or cosines is None or not before[0]:
        return None
    old, new = cosines[0] * norms[0] * before[0], cosines[1] * norms[1] * before[1]
    factor = (new - old) / before[0] ** 2
    expected = norms[0] ** 2 + 2 * factor * old + (factor * before[0]) ** 2
    fits = pair.close(expected, norms[1] ** 2, scale=max(norms) ** 2)
    return factor if fits and abs(factor) * before[0] > pair.bounds.rtol * max(norms) else None


def between_steps(pair: Pair) -> Found | None:
    """Equal up to the end of a step, and other weights at the start of the next, or at the end."""
    if pair.difference.column in ("weight_norm_l2", "weight_projection") and pair.step and _has_updates(pair):
        return (
            "weights",
            f"step {pair.step} begins with other weights although the update before had the same length and direction: "
            "they are changed outside the optimizer's step, or by a small change of its settings",
            (),
        )
    if pair.difference.column == "final weights" and _has_updates(pair):
        return ("weights", "the weights are changed after the last step", ())
    return None


def _has_updates(pair: Pair) -> bool:
    return "update_norm_l2" in pair.golden.columns


def length(pair: Pair) -> Found | None:
    """All common steps equal: one run is longer."""
    if pair.difference.column != "number of steps":
        return None
    old, new = len(pair.golden.rows), len(pair.now.rows)
    return ("length", f"the run makes {new} steps instead of {old}; the first {min(old, new)} are the same", ())


_KINDS = {
    "lr": "learning-rate",
    "weight_decay": "weight-decay",
    "momentum": "momentum",
    "nesterov": "momentum",
    "betas": "momentum",
    "name": "optimizer",
    "optimizer": "optimizer",
    "seed": "initialisation",
    "batch_size": "batch-size",
    "shuffle": "data-order",
    "accumulate": "batch-size",
}


def by_settings(pair: Pair) -> Found | None:
    """Nothing in the numbers names the change, but the recorded settings do."""
    if not pair.changed_settings:
        return None
    if "optimizer" in pair.changed_settings:
        return ("optimizer", f"another optimizer: {pair.changed_settings['optimizer'].removeprefix('optimizer ')}", ())
    said = ", ".join(pair.changed_settings.values())
    kinds = {_KINDS.get(name.rpartition(".")[2].partition("[")[0], "settings") for name in pair.changed_settings}
    return (kinds.pop() if len(kinds) == 1 else "settings", f"other settings: {said}", ())


def sparse(pair: Pair) -> Found | None:
    """Too few columns to follow cause and effect: say what is left."""
    if pair.step is None:
        return None
    if pair.step == 0:
        return ("start", "the first step differs: other initial weights, other samples or another loss", ())
    if not _has_updates(pair):
        return (
            "step-or-samples",
            f"step {pair.step - 1} began the same way: either it changed the weights differently (learning rate, "
            f"decay, optimizer), or step {pair.step} used other samples",
            (),
        )
    return None

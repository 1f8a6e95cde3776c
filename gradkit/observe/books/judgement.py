"""What a step consumed, judged from its optimizer's ledger: stale, reused, empty or cleared; unproven means silent."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from gradkit.observe.books.ledger import Ledger
from gradkit.observe.books.suspicions import WARY, Mixture
from gradkit.observe.books.verdict import Verdict
from gradkit.observe.tensors.buffers import holds, version
from gradkit.observe.tensors.measure import norms

HAND_MADE_READS = 3
"""Windows without a backward whose changed gradients are read, to tell zeroed ones from hand-written ones."""
REPLACED = -1
"""The move of a gradient that is another tensor now; moves of the same tensor are positive."""


def judge(ledger: Ledger, *, backwards_anywhere: int, closure: bool, may_write_unseen: Callable[[], bool]) -> Verdict:
    """What the optimizer is about to consume, or with a closure has just consumed.

    Args:
        ledger: The optimizer's ledger.
        backwards_anywhere: Backward calls since this optimizer's last step, whatever they deposited on.
        closure: The step was given a closure; it is judged after the step then.
        may_write_unseen: Says whether the program has a way to write weights that no version counter shows.
    """
    verdict = Verdict()
    if ledger.pending:
        # A step inside a backward (an optimizer in a post-accumulate hook): the backward in progress is settled now.
        ledger.settle_now()
    changed = ledger.mixed and _judge_mixtures(ledger, verdict)
    if ledger.sampled and not changed:
        ledger.samples.wanted = ledger.samples.always  # not needed here; kept for a loop that needs them
    if ledger.uncertain:
        return verdict
    if ledger.deposits:
        if not verdict.stale:
            _judge_clearing(ledger, verdict, closure=closure)
    else:
        _judge_reuse(ledger, verdict, closure, may_write_unseen)
    ledger.consecutive_cleared = ledger.consecutive_cleared + 1 if verdict.cleared else 0
    ledger.consecutive_empty = ledger.consecutive_empty + 1 if verdict.empty and not backwards_anywhere else 0
    return verdict


def _judge_mixtures(ledger: Ledger, verdict: Verdict) -> bool:
    """Judge what is suspected; returns whether any of it was changed between the backward and the step."""
    alive: dict[int, Mixture] = {}
    changed: dict[int, int] = {}
    for index, mixture in ledger.mixed.items():
        buffer = ledger.parameters[index].grad
        if buffer is None:
            continue
        change = version(buffer) - mixture.version if holds(mixture.buffer, buffer) else REPLACED
        if not change:
            alive[index] = mixture
        elif not mixture.touched:
            changed[index] = change
    factors = _still_mixed(ledger, changed) if changed else {}
    alive |= {index: ledger.mixed[index] for index in factors}
    if not alive:
        ledger.benign += not (changed and ledger.samples.wanted)
        return bool(changed)
    if ledger.proven:
        stale = [index for index, mixture in alive.items() if mixture.moved == 0 and not mixture.touched]
    else:
        stale = _prove(ledger, alive)
    for index in stale:
        verdict.stale[index] = ledger.windows_held.get(index, 1) + 1
        if index in changed:
            ledger.kept_moves.add(changed[index])
            if index in ledger.stale_copies:
                ledger.stale_copies[index].mul_(factors[index])
    if stale:
        verdict.concerned = stale
    return bool(changed)


def _still_mixed(ledger: Ledger, changed: dict[int, int]) -> dict[int, float]:
    """Which mixtures that were changed between the backward and the step still are one, with the factor they got."""
    samples = ledger.samples
    if samples.taken:
        found = samples.proven([(index, ledger.parameters[index]) for index in changed], ledger.reader)
        samples.wanted = samples.always or not found
        return found
    known = {index: 1.0 for index, change in changed.items() if change in ledger.kept_moves}
    if len(known) < len(changed) and samples.windows_left:
        samples.wanted = True
        ledger.arm()
    return known


def _prove(ledger: Ledger, alive: dict[int, Mixture]) -> list[int]:
    """The mixtures whose data shows that the consumed gradient was still there and was added to."""
    unmeasured = [index for index, mixture in alive.items() if mixture.before is None]
    measured = {index: mixture for index, mixture in alive.items() if mixture.before is not None}
    if unmeasured:
        ledger.benign = -WARY
        ledger.arm()
    if not measured:
        return []
    queue: list[Tensor] = []
    places: dict[tuple[int, str], int] = {}
    for index, mixture in measured.items():
        chain = [("before", mixture.before), ("held", ledger.held_norms.get(index))]
        chain += [(f"touched{turn}", norm) for turn, (_, norm) in enumerate(mixture.touched)]
        chain += [(f"left{turn}", norm) for turn, (norm, _) in enumerate(mixture.untouched)]
        chain += [(f"found{turn}", norm) for turn, (_, norm) in enumerate(mixture.untouched)]
        for kind, number in chain:
            if number is not None:
                places[index, kind] = len(queue)
                queue.append(number)
    values = ledger.reader.read(queue)

    def value(index: int, kind: str) -> float | None:
        place = places.get((index, kind))
        return None if place is None else values[place]

    stale = []
    seen_clean = seen_open = False
    for index, mixture in measured.items():
        before = value(index, "before")
        held = value(index, "held")
        if before is None:
            continue
        if before == 0.0:
            seen_clean = True
            if held != 0.0:  # a gradient that was zero all along says nothing about how the loop clears
                _learn_clearing(ledger, mixture.moved)
            continue
        if any(
            _cleared_later(ledger, mixture, turn, value(index, f"touched{turn}"))
            for turn in range(len(mixture.touched))
        ):
            continue
        if mixture.touched:
            continue  # changed in place between two backward calls: what is left of the old gradient is unknown
        between = [
            (value(index, f"left{turn}"), value(index, f"found{turn}")) for turn in range(len(mixture.untouched))
        ]
        if any(not _same(left, found) for left, found in between if left is not None and found is not None):
            ledger.invisible = True
            continue
        if mixture.unchecked:
            seen_open = True
            continue
        if held is None:
            # Not measured at the last step. A version that stood still means untouched, unless this loop is known to
            # write through `.data`; anything else is measured in the coming windows.
            if mixture.moved == 0 and not ledger.invisible:
                stale.append(index)
            else:
                seen_open = True
            continue
        if not _same(held, before):
            ledger.invisible = ledger.invisible or mixture.moved == 0
            continue  # changed on purpose: decayed, averaged, overwritten
        stale.append(index)
    if seen_open:
        ledger.arm()
    if stale and not seen_clean:
        ledger.proven = not ledger.invisible
    return stale


def _learn_clearing(ledger: Ledger, moved: int) -> None:
    if moved:
        ledger.clean_moves.add(moved)
    else:
        ledger.invisible = True
        ledger.proven = False


def _cleared_later(ledger: Ledger, mixture: Mixture, turn: int, norm: float | None) -> bool:
    if norm == 0.0:
        _learn_clearing(ledger, mixture.touched[turn][0])
        return True
    return False


def _same(first: float, second: float) -> bool:
    """Equal to the bit, NaN equal to NaN."""
    return first == second or (math.isnan(first) and math.isnan(second))


def _judge_clearing(ledger: Ledger, verdict: Verdict, *, closure: bool) -> None:
    """Whether the gradients deposited in this window are gone."""
    probe = ledger.parameters[ledger.probe].grad
    if probe is not None and not ledger.armed:
        moved = version(probe) - ledger.deposit_version
        if (moved == 0 or moved in ledger.harmless_moves) if ledger.is_deposit(probe) else ledger.replaces_buffers:
            return
    present = [index for index, parameter in enumerate(ledger.parameters) if parameter.grad is not None]
    telling = [index for index in present if not ledger.is_elsewhere(index)]
    if present and not telling:
        return
    if present:
        now = ledger.norms_of(telling)
        if not (ledger.armed or ledger.reader.allows()):
            return
        if any(norm != 0.0 for norm in ledger.reader.read(list(now.values()))):
            _learn_harmless(ledger, probe)
            return
    if closure and not (ledger.found_as_left() or (ledger.in_step_deposit and _weights_untouched(ledger))):
        return  # optimizers may clear their own gradients at the end of a step
    verdict.cleared = True
    verdict.concerned = range(len(ledger.parameters))
    if ledger.exit_norms:
        deposited = ledger.reader.read(list(ledger.exit_norms.values()))
        verdict.cleared_finite = all(map(math.isfinite, deposited)) and any(norm > 0.0 for norm in deposited)
        ledger.cleared_known = verdict.cleared_finite
    elif ledger.cleared_known and ledger.consecutive_cleared:
        verdict.cleared_finite = True  # a loop that has cleared measured gradients in every window up to this one
    ledger.arm()


def _learn_harmless(ledger: Ledger, probe: Tensor | None) -> None:
    """Remember how this loop changes gradients between backward and step without clearing them (clipping)."""
    if probe is None:
        return
    if not ledger.is_deposit(probe):
        ledger.replaces_buffers = True
    elif version(probe) != ledger.deposit_version:
        ledger.harmless_moves.add(version(probe) - ledger.deposit_version)


def _weights_untouched(ledger: Ledger) -> bool:
    """Whether the step wrote no parameter; False when that cannot be told (fused optimizers leave no trace)."""
    optimizer = ledger.reference()
    if optimizer is None or any(group.get("fused") for group in optimizer.param_groups):
        return False
    return version(ledger.parameters[ledger.probe]) == ledger.weight_version_in_step


def _judge_reuse(ledger: Ledger, verdict: Verdict, closure: bool, may_write_unseen: Callable[[], bool]) -> None:
    """Whether a window without a deposit stepped on the buffers of the last step, or on none at all."""
    present: list[int] = []
    same = True
    in_place = True
    elsewhere = False
    for index, parameter in enumerate(ledger.parameters):
        buffer = parameter.grad
        if buffer is None:
            continue
        if ledger.is_elsewhere(index):
            elsewhere = True
            continue
        present.append(index)
        held = ledger.held[index]
        known = holds(held, buffer)
        if not known or version(buffer) != ledger.held_versions[index]:
            same = False
            in_place = in_place and known
    if not present:
        if elsewhere:
            return
        # With a closure the gradients may have been cleared by the step itself; only a closure that never ran a
        # backward (there is no deposit in this window) and found none before is empty.
        verdict.empty = not closure or not ledger.before_closure.gradients
        return
    if not same:
        # Zeroed in place, or written by hand; a loop that writes its gradients itself is asked a few times only.
        if ledger.steps and in_place and ledger.hand_made < HAND_MADE_READS and ledger.reader.allows():
            verdict.empty = _all_zero(ledger, present)
            ledger.hand_made += not verdict.empty
        return
    if not ledger.held_deposited or ledger.steps == 0:
        return
    before_step, weight = ledger.before_closure, ledger.parameters[ledger.probe]
    if (before_step.weight_version if closure else version(weight)) != ledger.weight_version:
        return  # the weights were put back or moved meanwhile: a line search, a restore
    queue = list(ledger.norms_of(present).values())
    before = [ledger.held_norms.get(index) for index in present]
    measured = [number for number in before if number is not None]
    weights: list[Tensor] = []
    if ledger.weight_norm is not None:
        found = before_step.weight_norm if closure else norms([weight.detach()])[0]
        weights = [] if found is None else [found, ledger.weight_norm]
    values = ledger.reader.read(queue + measured + weights)
    now = values[: len(present)]
    if all(norm == 0.0 for norm in now):
        verdict.empty = True
        return
    if weights and not _same(values[-2], values[-1]):
        return  # put back through `.data`
    if len(measured) == len(present):
        then = values[len(present) : 2 * len(present)]
        if not all(map(_same, now, then)):
            ledger.invisible = True
            return
    elif ledger.invisible:
        ledger.arm()
        return
    if not (weights or ledger.reuse_proven) and may_write_unseen():
        ledger.weighs = True  # whether the weights were put back through `.data` shows the next time
        return
    ledger.weighs, ledger.reuse_proven = False, True
    verdict.reused = True
    verdict.concerned = present


def _all_zero(ledger: Ledger, present: list[int]) -> bool:
    return all(norm == 0.0 for norm in ledger.reader.read(list(ledger.norms_of(present).values())))

"""What one optimizer consumed, and what has happened to its gradients since: the exact accounting of zeroing.

A step consumes gradient buffers; the ledger remembers each by weak reference and version. A backward that adds to a
buffer that is still the consumed one is a *suspicion*, settled by data: the norm at the step, before the backward and
after it. Equal, not zero, and changed by the backward proves that old and new were mixed. Whatever else happened (a new
tensor, zeros, a deliberate change) leaves the ledger silent. Every state that was not understood is dropped.

In the steady state of a clean loop this reads `p.grad is None` once per window and a version per parameter once per
step; no gradient's data is touched. The first `ARMED_WINDOWS` windows also queue norms, to learn how the loop clears.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gradkit.observe.books.samples import Samples
from gradkit.observe.books.verdict import Verdict
from gradkit.observe.tensors.buffers import (
    NOTHING,
    Held,
    Look,
    gradient_of,
    held_state,
    hold,
    holds,
    inner,
    is_wrapped,
    version,
    weight_version,
)
from gradkit.observe.tensors.measure import Reader, norms

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.program.sites import Site

ARMED_WINDOWS = 2
"""Windows whose gradients are measured when an optimizer is new, and again after an open suspicion."""
BENIGN_SUSPICIONS = 3
"""Suspicions in a row that ended in a clearing (a GAN's discriminator), or were of gradients that only a backward of
another model found (optimizers in turns), after which no norms are queued for them."""
WARY = 256
"""Such suspicions for which norms are queued again after a step took what was suspected and nobody had measured."""
MAX_RETRIES = 8
"""Times open suspicions may arm an optimizer's ledger again; after that a loop is taken to be beyond proof."""


@dataclass(slots=True)
class Mixture:
    """One buffer that was consumed by an earlier step and added to since."""

    buffer: Held
    version: int
    moved: int
    """Version steps between the consuming step and the first backward: 0, or an in-place change of unknown meaning."""
    before: Tensor | None = None
    after: Tensor | None = None
    touched: list[tuple[int, Tensor]] = field(default_factory=list)
    """Later in-place changes: version steps, and the norm after them."""
    untouched: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Norms after one backward and before the next; a change between them is one that left no version behind."""
    unchecked: bool = False
    """A further backward came whose norms were not measured."""


class Before(NamedTuple):
    """What a step with a closure found. Frameworks hand in closures that compute nothing: such a step consumed this.

    Attributes:
        gradients: There was any.
        probe: How the probe's gradient looked.
        weight_version: Of the probe.
        weight_norm: Of the probe, if it was measured after the step before.
    """

    gradients: bool = False
    probe: Look | None = None
    weight_version: int = -1
    weight_norm: Tensor | None = None


class Ledger:
    """The accounting of one optimizer.

    Args:
        optimizer: Watched by weak reference; its parameters are listed once and again when its groups change.
        number: Which optimizer of the run it is, from 0.
        name_it: Gives the next optimizer of a class its name for messages. It is asked at the first step, or when
            something is said before: optimizers that merely live in the process are not numbered.
        reader: Brings norms to the host on a budget.
        deep: Keep copies of consumed gradients that a backward adds to, for the values of deep mode.
    """

    def __init__(
        self, optimizer: Optimizer, number: int, name_it: Callable[[str], str], reader: Reader, deep: bool = False
    ) -> None:
        self.reference = weakref.ref(optimizer)
        self.number = number
        self._label = type(optimizer).__name__
        self.bystander = False
        """It lived before anyone watched; until it steps it is not known to be of this run."""
        self._name_it: Callable[[str], str] | None = name_it
        self.deep = deep
        self.steps = 0
        self.deposits_total = 0
        # Counters of the present window.
        self.deposits = 0
        self.live_deposits = 0
        self.cleared_deposits = 0
        self.backwards_before = 0
        self.uncertain = False
        self.in_step = False
        self.in_step_deposit = False
        self.backward_site: Site | None = None
        self.created_site: Site | None = None
        # Streaks over windows.
        self.consecutive_empty = 0
        self.consecutive_cleared = 0
        self.trained_before = False
        self.windows_held: dict[int, int] = {}
        self.stale_copies: dict[int, Tensor] = {}
        self.armed = ARMED_WINDOWS
        self.reader = reader
        self.retries = 0
        self.proven = False
        self.benign = 0
        self.invisible = False
        self.clean_moves: set[int] = set()
        self.harmless_moves: set[int] = set()
        self.replaces_buffers = False
        self.probe = 0
        self.probe_entry: Look | tuple[int, int] = NOTHING
        self.deposit: Held | None = None
        """What the last backward left in the probe; by reference, since a tensor made by hand may get the same id."""
        self.deposit_version = -1
        self.entries: list[Look] | None = None
        self.exit_norms: dict[int, Tensor] = {}
        self.entry_norms: dict[int, Tensor] = {}
        self.pending: dict[int, tuple[Look | int, int]] = {}
        """How each survivor was found, a plain one by its version alone, and by how many versions it had moved."""
        self.mixed: dict[int, Mixture] = {}
        self.samples = Samples(always=deep)
        self.sampled = False
        self.kept_moves: set[int] = set()
        self.undecided = False
        self.began_empty = False
        self.held: list[Held | None] = []
        self.held_versions: list[int] = []
        self.held_norms: dict[int, Tensor] = {}
        self.held_deposited = False
        self.weight_version = -1
        self.weight_norm: Tensor | None = None
        self.weighs = False
        """The probe's weight is measured after every step: a second step on the same gradients is to be settled."""
        self.reuse_proven = False
        self.parameters: list[Tensor] = []
        self.wrapped = False
        """Some of them are sharded or of a subclass: their gradients are known by memory, not as objects."""
        self.group_ids: list[tuple[int, ...]] = []
        self.before_closure = Before()
        self.weight_version_in_step = -1
        self.hand_made = 0
        self.cleared_known = False
        self.adopt(optimizer)
        self.uncertain = False

    @property
    def label(self) -> str:
        """How messages call it."""
        self.name()
        return self._label

    def name(self) -> None:
        """Give it its label; once it has one this does nothing."""
        if self._name_it is not None:
            self._label, self._name_it = self._name_it(self._label), None

    def adopt(self, optimizer: Optimizer) -> bool:
        """List the optimizer's parameters again if its groups changed; what is known of those that stayed is kept."""
        if len(optimizer.param_groups) == len(self.group_ids):
            for group, ids in zip(optimizer.param_groups, self.group_ids):  # noqa: B905  # equally long; every step
                if tuple(map(id, group["params"])) != ids:
                    break
            else:
                return False
        groups = [tuple(map(id, group["params"])) for group in optimizer.param_groups]
        known = {
            id(parameter): (buffer, version)
            for parameter, buffer, version in zip(self.parameters, self.held, self.held_versions, strict=True)
        }
        self.group_ids = groups
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.wrapped = any(map(is_wrapped, self.parameters))
        kept = [known.get(id(parameter), (None, 0)) for parameter in self.parameters]
        self.held = [buffer for buffer, _ in kept]
        self.held_versions = [version for _, version in kept]
        self._forget_window()
        self.uncertain = True
        self.probe = 0
        return True

    def forget(self) -> None:
        """Drop everything known about buffers; used when something could not be followed. No claim can come of it."""
        self.held = [None] * len(self.parameters)
        self.held_versions = [0] * len(self.parameters)
        self.held_norms = {}
        self.held_deposited = False
        self._forget_window()
        self.uncertain = True

    def _forget_window(self) -> None:
        self.mixed = {}
        self.pending = {}
        self.exit_norms = {}
        self.held_norms = {}
        self.entries = None
        self.deposit = None
        self.windows_held = {}
        self.stale_copies = {}
        self.samples.clear()

    # --- backward -----------------------------------------------------------------------------------------------

    def enter_backward(self) -> bool:
        """Look at the buffers before a backward that accumulates.

        Returns:
            Whether the user's line of this backward may be needed later.
        """
        if self.undecided:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    self._look_at_survivors()
                    break
            else:
                if not (self.armed or self.mixed or self.live_deposits):  # a sound loop that clears to None
                    self.undecided, self.began_empty, self.entries, self.probe_entry = False, True, None, NOTHING
                    return False
                self.undecided = False
        if self.mixed:
            self._look_at_mixtures()
        if self.armed:
            self.entries = list(map(Look, self.parameters))
        else:
            self.entries = None
            probe = self.parameters[self.probe].grad if self.parameters else None
            self.probe_entry = (
                NOTHING if probe is None else self._entry(probe) if self.wrapped else (id(probe), probe._version)
            )
        if self.live_deposits and self.parameters[self.probe].grad is None:  # what was deposited is gone
            self.cleared_deposits += self.live_deposits
            self.live_deposits = 0
        return bool(self.armed or self.mixed or (self.pending and (self.proven or self.benign < BENIGN_SUSPICIONS)))

    def entered_empty(self) -> None:
        """The first backward of a window found no gradient at all, and no doubt was open."""
        self.undecided = False
        self.began_empty = True
        self.entries = None
        self.probe_entry = NOTHING

    def _entry(self, probe: Tensor) -> Look | tuple[int, int]:
        """What shows a change of the probe's gradient while a backward runs."""
        return Look(self.parameters[self.probe]) if self.wrapped else (id(probe), probe._version)

    def leave_backward(self, *, replaces: bool, failed: bool) -> None:
        """Look at the buffers after a backward.

        Args:
            replaces: `create_graph` was asked for: autograd then adds out of place, into a new tensor.
            failed: The backward raised; what it deposited is unknown.
        """
        if failed:
            self.mixed = {}
            self.pending = {}
            self.entries = None
            self.uncertain = True
            return
        if self.pending:
            self._settle_pending(replaces)
        elif self.mixed:
            self._follow_mixtures(replaces)
        plain = self.entries is None and self.parameters and not self.wrapped
        probe = self.parameters[self.probe].grad if plain else None
        if probe is not None:
            if (id(probe), probe._version) == self.probe_entry:  # it was not reached; what else was is not known
                self.uncertain = True
                return
            self.deposit = weakref.ref(probe)
            self.deposit_version = probe._version
        elif not self._deposited():
            return
        self.deposits += 1
        if self.in_step:
            self.in_step_deposit = True
            self.weight_version_in_step = weight_version(self.parameters[self.probe])
        self.live_deposits += 1
        self.deposits_total += 1

    def _deposited(self) -> bool:
        """Whether the backward changed a gradient of this optimizer; leaves the probe on a parameter it changed."""
        if not self.parameters:
            return False
        entries = self.entries
        if entries is None:
            probe = self.parameters[self.probe].grad
            if probe is not None and self.probe_entry != self._entry(probe):
                self._note_deposit(probe)
                return True
            # The usual parameter got nothing. Whether another did is known only if none had a gradient before.
            if self.deposits or self.probe_entry is not NOTHING or self.pending or self.mixed or self.undecided:
                self.uncertain = True
                return False
            for index, parameter in enumerate(self.parameters):
                if parameter.grad is not None:
                    self.probe = index
                    self._note_deposit(parameter.grad)
                    return True
            return False
        changed = []
        for index, (parameter, before) in enumerate(zip(self.parameters, entries, strict=True)):
            after = Look(parameter)
            if after and after != before:
                changed.append(index)
        self.entries = None
        if not changed:
            return False
        self.probe = changed[0]
        self._note_deposit(self.parameters[self.probe].grad)
        present = [index for index, parameter in enumerate(self.parameters) if parameter.grad is not None]
        self.exit_norms = self.norms_of(present)
        for index, mixture in self.mixed.items():
            mixture.after = self.exit_norms.get(index)
        return True

    def _note_deposit(self, buffer: Tensor | None) -> None:
        self.deposit = None if buffer is None else hold(buffer, self.wrapped)
        self.deposit_version = -1 if buffer is None else version(buffer)

    def is_as_deposited(self, buffer: Tensor | None) -> bool:
        """Whether the probe's gradient is what the last backward left there, untouched as far as versions tell."""
        return buffer is not None and self.is_deposit(buffer) and version(buffer) == self.deposit_version

    def is_deposit(self, buffer: Tensor) -> bool:
        """Whether the probe's gradient is the tensor that the last backward left there."""
        return holds(self.deposit, buffer)

    def _look_at_survivors(self) -> None:
        """Find buffers that are still the ones the last step consumed."""
        for index, (parameter, held) in enumerate(zip(self.parameters, self.held, strict=True)):
            buffer = parameter.grad
            if held is None or buffer is None or index in self.mixed:
                continue
            now = version(buffer) if self.wrapped else buffer._version
            if self.wrapped:
                if self.is_elsewhere(index) or not holds(held, buffer):
                    continue
            elif held() is not buffer:
                continue
            moved = now - self.held_versions[index]
            if moved in self.clean_moves:
                continue
            self.pending[index] = (Look(parameter) if self.wrapped else now, moved)
        if not self.pending:
            self.undecided = False
            return
        if self.invisible and not self.reader.allows():
            # The loop clears in a way only data shows, and the budget for data is spent: no verdict in this window.
            self.pending = {}
            self.undecided = False
            return
        if self.deep:
            for index in self.pending:
                buffer = self.parameters[index].grad
                if buffer is not None and index not in self.stale_copies:
                    self.stale_copies[index] = buffer.detach().clone()
        if self.benign < BENIGN_SUSPICIONS and not self.proven:
            self.entry_norms = self.norms_of(list(self.pending))
        if self.samples.windows_left and (self.samples.wanted or self.sampled):
            pairs = [(index, self.parameters[index].grad) for index in self.pending]
            self.samples.begin([(index, buffer) for index, buffer in pairs if buffer is not None])
            self.sampled = True

    def settle_now(self) -> None:
        """Settle what is pending while a backward still runs: a step came from inside it."""
        self._settle_pending(replaces=False)

    def _settle_pending(self, replaces: bool) -> None:
        if self.mixed:
            self._follow_mixtures(replaces)
        for index, (look, moved) in self.pending.items():
            buffer, held = self.parameters[index].grad, self.held[index]
            if buffer is None or held is None:
                continue
            if held() is buffer or (self.wrapped and holds(held, buffer)):
                if (Look(self.parameters[index]) if self.wrapped else buffer._version) == look:
                    continue  # that loss did not reach it: still undecided
            elif not replaces:
                continue
            before = self.entry_norms.get(index)
            if self.wrapped:
                self.mixed[index] = Mixture(hold(buffer, True), version(buffer), moved, before)
            else:
                self.mixed[index] = Mixture(weakref.ref(buffer), buffer._version, moved, before)
            self.samples.follow(index, buffer)
        if not self.mixed:
            self.benign += 1
        self.pending = {}
        self.entry_norms = {}

    def _follow_mixtures(self, replaces: bool) -> None:
        """A further backward of the window added to the mixtures, or replaced them by their sum with the new part."""
        for index, mixture in list(self.mixed.items()):
            buffer = self.parameters[index].grad
            if buffer is not None and (replaces or holds(mixture.buffer, buffer)):
                mixture.buffer = hold(buffer, self.wrapped)
                if self.wrapped or version(buffer) != mixture.version or replaces:
                    self.samples.follow(index, buffer)
                mixture.version = version(buffer)
            else:
                del self.mixed[index]

    def follow_scaling(self) -> Callable[[], None] | None:
        """What to call after all gradients were scaled; None when there is no mixture to follow.

        A mixture scaled by one factor holds the same windows in the same shares, so it stays one. Those that were
        already changed otherwise are left as they are.
        """
        whole = {}
        for index, mixture in self.mixed.items():
            buffer = self.parameters[index].grad
            if buffer is not None and holds(mixture.buffer, buffer) and version(buffer) == mixture.version:
                whole[index] = (mixture, buffer)
        if not whole:
            return self._follow_plain_scaling()

        old_parts = self.stale_copies
        copies = [(old_parts[index], buffer) for index, (_, buffer) in whole.items() if index in old_parts]
        before = norms([buffer.detach() for _, buffer in copies]) if copies else []

        def follow() -> None:
            for mixture, buffer in whole.values():
                mixture.version = version(buffer)
            if self.armed and not self.proven:
                for index, norm in self.norms_of(list(whole)).items():
                    whole[index][0].after = norm
            if copies:
                after = norms([buffer.detach() for _, buffer in copies])
                for (copy, _), old, new in zip(copies, before, after, strict=True):
                    copy.mul_(torch.where(old > 0, new / old, 1.0).to(copy.dtype))

        return follow

    def _follow_plain_scaling(self) -> Callable[[], None] | None:
        """The same where nothing is mixed: what the backward left is still what is there, scaled."""
        if self.mixed or not self.parameters:
            return None
        parameter = self.parameters[self.probe]
        if not self.is_as_deposited(parameter.grad):
            return None

        def follow() -> None:
            self._note_deposit(parameter.grad)

        return follow

    def _look_at_mixtures(self) -> None:
        """Between two backward calls of one window: forget mixtures that were cleared, note those that were changed."""
        touched: dict[int, int] = {}
        for index, mixture in list(self.mixed.items()):
            buffer = self.parameters[index].grad
            if buffer is None or not holds(mixture.buffer, buffer):
                del self.mixed[index]
                continue
            moved = version(buffer) - mixture.version
            if moved in self.clean_moves:
                del self.mixed[index]
            elif moved:
                touched[index] = moved
                mixture.version = version(buffer)
        if not self.mixed:
            self.benign += 1
        if touched:
            for index, norm in self.norms_of(list(touched)).items():
                self.mixed[index].touched.append((touched[index], norm))
                del self.mixed[index].touched[8:]
        if not self.proven and len(touched) < len(self.mixed):
            self._check_untouched([index for index in self.mixed if index not in touched])

    def _check_untouched(self, indices: list[int]) -> None:
        """Queue what shows whether mixtures that look untouched were cleared through `.data` between two backwards."""
        now = self.norms_of(indices) if self.armed else {}
        for index in indices:
            mixture = self.mixed[index]
            if index in now and mixture.after is not None:
                mixture.untouched.append((mixture.after, now[index]))
                del mixture.untouched[8:]
            else:
                mixture.unchecked = True

    # --- step ---------------------------------------------------------------------------------------------------

    def is_plainly_clean(self) -> bool:
        """Whether metadata alone shows that nothing can be said against what the step is about to consume.

        That is what this window's backwards left, or nothing suspected in a window that was not seen in full. The
        question of every step of a sound loop, so it is asked before anything else is looked at.
        """
        if self.mixed or self.pending or self.armed:
            return False
        if self.uncertain:
            return not self.sampled
        buffer = self.parameters[self.probe].grad if self.deposits else None
        if buffer is None or self.deposit is None or self.wrapped:
            return self.is_as_deposited(buffer)
        return buffer._version == self.deposit_version and self.deposit() is buffer

    def is_steady(self) -> bool:
        """Whether this window, just stepped on, was one of a loop that can be followed the short way; see `Steady`."""
        return (
            self.began_empty
            and self.deposits == 1
            and not (self.armed or self.held_norms or self.windows_held or self.weighs or self.wrapped)
        )

    def enter_closure(self) -> None:
        """Remember what a step with a closure finds."""
        if not self.parameters:
            self.before_closure = Before()
            return
        probe = self.parameters[self.probe]
        self.before_closure = Before(
            any(parameter.grad is not None for parameter in self.parameters),
            Look(probe),
            weight_version(probe),
            norms([probe.detach()])[0] if self.weight_norm is not None else None,
        )

    def found_as_left(self) -> bool:
        """Whether a step with a closure, now over, left the gradients as they were: none computed, none cleared."""
        before, now = self.before_closure, Look(self.parameters[self.probe])
        return not self.in_step_deposit and before.probe == now and (bool(now) or not before.gradients)

    def snapshot(self, verdict: Verdict) -> None:
        """Remember what the step consumed; after this a new window begins."""
        held, versions = held_state(list(map(gradient_of, self.parameters)), self.wrapped)
        self.held, self.held_versions = held, versions
        self.undecided = True
        self.held_deposited = self.deposits > 0 or (self.held_deposited and verdict.reused)
        if self.parameters:
            probe = self.parameters[self.probe]
            self.weight_version = weight_version(probe) if self.wrapped else probe._version
        if self.armed:
            self.armed -= 1
            self.wrapped = any(map(is_wrapped, self.parameters))  # perhaps since the optimizer was made
            present = [index for index, buffer in enumerate(held) if buffer is not None]
            self.held_norms = self.norms_of(present) if present else {}
            self.weight_norm = norms([self.parameters[self.probe].detach()])[0] if self.parameters else None
        elif self.weight_norm is not None:
            self.held_norms = {}
            self.weight_norm = None
        if self.weighs:
            self.weight_norm = norms([self.parameters[self.probe].detach()])[0]
        if verdict.stale or self.windows_held:
            self.windows_held = verdict.stale
        if self.mixed:
            self.mixed = {}
        if self.stale_copies:
            self.stale_copies = {}
        if self.sampled:
            self.samples.clear()
            self.sampled = False
        if self.deposits:
            self.trained_before = True
            self.deposits = self.live_deposits = self.cleared_deposits = 0
        if self.exit_norms:
            self.exit_norms = {}
        self.uncertain = False
        self.began_empty = False
        self.in_step_deposit = False
        self.backward_site = None
        self.steps += 1

    def is_elsewhere(self, index: int) -> bool:
        """Whether this process holds no number of a parameter that is sharded: its gradient tells nothing here."""
        return self.wrapped and not inner(self.parameters[index]).numel()

    @property
    def count(self) -> int:
        """How many of its parameters this process holds numbers of."""
        return len(self.parameters) - sum(map(self.is_elsewhere, range(len(self.parameters)) if self.wrapped else ()))

    def norms_of(self, indices: Sequence[int]) -> dict[int, Tensor]:
        """Queued norms of the present gradients of these parameters, by index."""
        buffers = {index: self.parameters[index].grad for index in indices}
        present = {index: buffer.detach() for index, buffer in buffers.items() if buffer is not None}
        return dict(zip(present, self.reader.norms(list(present.values())), strict=True)) if present else {}

    def arm(self) -> None:
        """Measure the coming windows: an open suspicion is to be settled by data, each time after a longer wait."""
        if self.retries < MAX_RETRIES and self.armed < ARMED_WINDOWS:
            self.retries += 1
            self.armed = ARMED_WINDOWS + 1

"""What one optimizer consumed, and what has happened to its gradients since: the exact accounting of zeroing.

A step consumes gradient buffers; the ledger remembers each by weak reference and version. A backward that adds to a
buffer that is still the consumed one is a *suspicion*, settled by data: the norm at the step, before the backward and
after it. Equal, not zero, and changed by the backward proves that old and new were mixed. Whatever else happened (a new
tensor, zeros, a deliberate change) leaves the ledger silent. Every state that was not understood is dropped.

In the steady state of a clean loop this reads `p.grad is None` once per window and a version per parameter once per
step; no gradient's data is touched. The first `ARMED_WINDOWS` windows also queue norms, to learn how the loop clears.

The states of a window, the attributes that hold them, and what each event makes of them:

| state | a backward begins | a backward ends | the step |
| --- | --- | --- | --- |
| undecided: `undecided` | no gradient: empty; a consumed one: pending; else decided | - | `empty` or `reused` |
| empty: `began_empty` | - | probe changed: deposited; another had a gradient: uncertain | `empty` |
| pending: `pending` | - | added to: mixed; not reached: undecided, uncertain | settled as if that were over |
| mixed: `mixed` | gone: `benign`; changed: `touched` | followed | proven: `stale`; not measured: armed |
| deposited: `deposits` | probe gone: `cleared_deposits` | one more | as left: clean; gone or zero: `cleared` |
| uncertain: `uncertain` | as the state beside it | it raised: all is forgotten | only a proven mixture is told |

After every step `snapshot` makes it undecided. Changed groups (`adopt`) and `forget` drop the window and leave it
uncertain; a scaling of all gradients (`follow_scaling`) moves the versions that are remembered, and no state. The third
and the fourth row are handled in `suspicions`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from gradkit.observe.books.suspicions import BENIGN_SUSPICIONS, Suspicions
from gradkit.observe.books.verdict import Verdict
from gradkit.observe.tensors.buffers import (
    NOTHING,
    Held,
    Look,
    gradient_of,
    held_state,
    hold,
    holds,
    is_wrapped,
    version,
)
from gradkit.observe.tensors.measure import Reader, norms

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.program.sites import Site


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


class Ledger(Suspicions):
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
        super().__init__(reader, deep)
        self.reference = weakref.ref(optimizer)
        self.number = number
        self._label = type(optimizer).__name__
        self.bystander = False
        """It lived before anyone watched; until it steps it is not known to be of this run."""
        self._name_it: Callable[[str], str] | None = name_it
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
        self.harmless_moves: set[int] = set()
        self.replaces_buffers = False
        self.probe = 0
        self.probe_entry: Look | tuple[int, int] = NOTHING
        self.deposit: Held | None = None
        """What the last backward left in the probe; by reference, since a tensor made by hand may get the same id."""
        self.deposit_version = -1
        self.entries: list[Look] | None = None
        self.exit_norms: dict[int, Tensor] = {}
        self.began_empty = False
        self.held_deposited = False
        self.weight_version = -1
        self.weight_norm: Tensor | None = None
        self.weighs = False
        """The probe's weight is measured after every step: a second step on the same gradients is to be settled."""
        self.reuse_proven = False
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
                self.pending = {}
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
            self.weight_version_in_step = version(self.parameters[self.probe])
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

    def follow_scaling(self) -> Callable[[], None] | None:
        """What to call after all gradients were scaled by one factor; None when there is nothing to follow."""
        return self._follow_mixed_scaling() or self._follow_plain_scaling()

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
            version(probe),
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
            self.weight_version = version(probe) if self.wrapped else probe._version
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

    @property
    def count(self) -> int:
        """How many of its parameters this process holds numbers of."""
        return len(self.parameters) - sum(map(self.is_elsewhere, range(len(self.parameters))))

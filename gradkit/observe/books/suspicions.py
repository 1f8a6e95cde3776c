"""What one optimizer's gradients are suspected of: buffers it consumed and did not clear, which a backward adds to.

A consumed buffer that is still there when a backward begins is *pending*. If that backward adds to it, it is *mixed*:
then norms prove, or fail to prove, that old and new are in it. Everything else that may happen to it ends the suspicion
without a word. The base of the ledger, which keeps the accounts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradkit.observe.books.samples import Samples
from gradkit.observe.tensors.buffers import Held, Look, hold, holds, inner, version
from gradkit.observe.tensors.measure import Reader, norms

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


class Suspicions:
    """The suspicions about one optimizer's gradients, and what its loop was found to do with them.

    Args:
        reader: Brings norms to the host on a budget.
        deep: Keep copies of consumed gradients that a backward adds to, for the values of deep mode.

    Attributes:
        parameters: Of the optimizer, in order.
        wrapped: Some of them are sharded or of a subclass: their gradients are known by memory, not as objects.
        held: What the last step consumed, for each parameter.
        held_versions: And at which version.
        held_norms: And its norms, by index, where they were measured.
        undecided: No backward of this window has found all that was consumed cleared yet.
        pending: How each survivor was found, a plain one by its version alone, and by how many versions it had moved.
        entry_norms: Norms of these, by index.
        mixed: What was added to, by index.
        sampled: Samples were taken of these in this window.
        stale_copies: In deep mode, what was there before.
        armed: Windows that are still to be measured.
        retries: Times it was armed again.
        benign: Suspicions in a row that came to nothing.
        proven: Versions alone tell here, since data has shown so.
        invisible: The loop clears in a way only data shows.
        clean_moves: Version steps by which it clears in place.
        kept_moves: Those by which it changes a mixture and keeps it one.
    """

    def __init__(self, reader: Reader, deep: bool) -> None:
        self.reader = reader
        self.deep = deep
        self.parameters: list[Tensor] = []
        self.wrapped = False
        self.held: list[Held | None] = []
        self.held_versions: list[int] = []
        self.held_norms: dict[int, Tensor] = {}
        self.undecided = False
        self.pending: dict[int, tuple[Look | int, int]] = {}
        self.entry_norms: dict[int, Tensor] = {}
        self.mixed: dict[int, Mixture] = {}
        self.samples = Samples(always=deep)
        self.sampled = False
        self.stale_copies: dict[int, Tensor] = {}
        self.armed = ARMED_WINDOWS
        self.retries = 0
        self.benign = 0
        self.proven = False
        self.invisible = False
        self.clean_moves: set[int] = set()
        self.kept_moves: set[int] = set()

    def _look_at_survivors(self) -> None:
        """Find buffers that are still the ones the last step consumed."""
        if self.pending:  # set aside by a backward that did not synchronize
            self.pending = {
                index: old for index, old in self.pending.items() if self.parameters[index].grad is not None
            }
        if self.entry_norms:
            self.entry_norms = {index: norm for index, norm in self.entry_norms.items() if index in self.pending}
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
            self.entry_norms |= self.norms_of([index for index in self.pending if index not in self.entry_norms])
        if self.samples.windows_left and (self.samples.wanted or self.sampled):
            pairs = [(index, self.parameters[index].grad) for index in self.pending]
            self.samples.begin([(index, buffer) for index, buffer in pairs if buffer is not None])
            self.sampled = True

    def settle_now(self) -> None:
        """Settle what is pending while a backward still runs: a step came from inside it."""
        self._settle_pending(replaces=False)
        self.pending = {}

    def _settle_pending(self, replaces: bool) -> None:
        aside = {}
        if self.mixed:
            self._follow_mixtures(replaces)
        for index, (look, moved) in self.pending.items():
            buffer, held = self.parameters[index].grad, self.held[index]
            if buffer is None or held is None:
                continue
            if held() is buffer or (self.wrapped and holds(held, buffer)):
                if (Look(self.parameters[index]) if self.wrapped else buffer._version) == look:
                    continue  # that loss did not reach it: still undecided
            elif self.wrapped and held() is not None and not replaces:
                aside[index] = (look, moved)  # FSDP1 adds to it again once gradients are synchronized
                continue
            elif not replaces:
                continue
            before = self.entry_norms.get(index)
            if self.wrapped:
                self.mixed[index] = Mixture(hold(buffer, True), version(buffer), moved, before)
            else:
                self.mixed[index] = Mixture(weakref.ref(buffer), buffer._version, moved, before)
            self.samples.follow(index, buffer)
        if not (self.mixed or aside):
            self.benign += 1
        self.pending = aside

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

    def _follow_mixed_scaling(self) -> Callable[[], None] | None:
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
            return None

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

    def is_elsewhere(self, index: int) -> bool:
        """Whether this process holds no number of a parameter that is sharded: its gradient tells nothing here."""
        return self.wrapped and not inner(self.parameters[index]).numel()

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

"""Leaves that gradients reach though no optimizer holds them: who they are, for how long, and whether they move."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.optim import Optimizer

from gradkit.observe.tensors.buffers import _NOTHING, state
from gradkit.observe.tensors.checksums import changed, checksum
from gradkit.observe.tensors.measure import Reader


def held_ids(optimizers: Iterable[Optimizer]) -> set[int]:
    """Identities of all parameters in the groups of these optimizers."""
    return {
        id(parameter) for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]
    }


@dataclass(slots=True)
class Outsider:
    """One leaf that got gradients while no known optimizer held it.

    Attributes:
        reference: The leaf.
        since: Windows that had been observed before it was first seen.
        windows: Windows in which a gradient arrived on it.
        arrived: One arrived in the present window.
        buffer: The gradient as the last backward left it.
        norms: Norms of the gradient found before backward calls that added to it.
        cleared: The gradient was found cleared or replaced.
        first: Checksum of the leaf when it was first seen.
    """

    reference: weakref.ref[Tensor]
    since: int
    windows: int = 0
    arrived: bool = False
    buffer: tuple[int, int] = _NOTHING
    entry: tuple[int, int] = _NOTHING
    norms: list[Tensor] = field(default_factory=list)
    cleared: bool = False
    first: Tensor | None = None


class Outsiders:
    """The leaves outside all optimizers, from when they are first seen until they are explained.

    Args:
        reader: Brings checksums and norms to the host.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.items: dict[int, Outsider] = {}
        self._explained: dict[int, weakref.ref[Tensor]] = {}
        self._seen: dict[int, tuple[weakref.ref[Tensor], int]] = {}

    def enter(self, outside: Sequence[Tensor], observed: int) -> list[Outsider]:
        """Look at the gradients of these leaves before a backward.

        Args:
            outside: Leaves that the backward will reach and no known optimizer holds.
            observed: Windows observed so far.
        """
        present = []
        for leaf in outside:
            known = self._explained.get(id(leaf))
            if known is not None and known() is leaf:
                continue
            item = self.items.get(id(leaf))
            if item is None or item.reference() is not leaf:
                reference, since = self._seen.get(id(leaf), (None, observed))
                if reference is None or reference() is not leaf:
                    reference, since = weakref.ref(leaf), observed
                    self._seen[id(leaf)] = (reference, since)
                item = self.items[id(leaf)] = Outsider(reference, since, first=checksum(leaf))
            buffer = leaf.grad
            item.entry = state(buffer)
            if item.windows and not item.arrived:
                if buffer is None or item.entry[0] != item.buffer[0]:
                    item.cleared = True
                else:  # zeroed in place, or clipped along with the others: the norm tells
                    item.norms += self._reader.norms([buffer.detach()])
            present.append(item)
        return present

    @staticmethod
    def leave(present: Iterable[Outsider]) -> None:
        """Look at them again after the backward."""
        for item in present:
            leaf = item.reference()
            if leaf is not None and leaf.grad is not None:
                item.buffer = state(leaf.grad)
                item.arrived = item.arrived or item.buffer != item.entry

    def end_window(self) -> bool:
        """An optimizer stepped; True when a gradient had arrived on an outsider since the step before it."""
        arrived = False
        for key, item in list(self.items.items()):
            if item.reference() is None:
                del self.items[key]
            elif item.arrived:
                item.windows += 1
                item.arrived = False
                arrived = True
        return arrived

    def ripe(self, windows: int) -> list[tuple[Tensor, Outsider]]:
        """Outsiders that got gradients in at least that many windows."""
        found = [(item.reference(), item) for item in self.items.values() if item.windows >= windows]
        return [(leaf, item) for leaf, item in found if leaf is not None]

    def resting(self, ripe: Sequence[tuple[Tensor, Outsider]]) -> list[tuple[Tensor, Outsider]]:
        """Those of `ripe` that are still bit-identical to when they were first seen; the others are explained."""
        moved = changed([item.first for _, item in ripe], [checksum(leaf) for leaf, _ in ripe], self._reader)
        for (leaf, _), has in zip(ripe, moved, strict=True):
            if has is not False:
                self.explain(leaf)
        return [pair for pair, has in zip(ripe, moved, strict=True) if has is False]

    def kept(self, ripe: Sequence[tuple[Tensor, Outsider]]) -> bool:
        """Whether the gradients of all of them stayed where they were until the next was added.

        A gradient that is zero every time (a bias that cancels out) says nothing; one that became zero was cleared.
        """
        if not ripe or any(item.cleared or not item.norms for _, item in ripe):
            return False
        norms = iter(self._reader.read([norm for _, item in ripe for norm in item.norms]))
        stayed = [{next(norms) != 0.0 for _ in item.norms} for _, item in ripe]
        return {True} in stayed and not any(len(kinds) > 1 for kinds in stayed)

    def explain(self, leaf: Tensor) -> None:
        """There is nothing wrong with this leaf, or it has been said: do not look at it again."""
        self.items.pop(id(leaf), None)
        self._explained[id(leaf)] = weakref.ref(leaf)

    def forget(self) -> None:
        """Start over, as after a pause in which windows went by unseen; what is explained stays so."""
        self.items = {}
        self._explained = {key: leaf for key, leaf in self._explained.items() if leaf() is not None}
        self._seen = {key: value for key, value in self._seen.items() if value[0]() is not None}

"""Leaves that gradients reach though no optimizer holds them: who they are, for how long, and whether they move."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.optim import Optimizer

from gradkit.observe.tensors.buffers import Look
from gradkit.observe.tensors.checksums import changed, checksum
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.observe.tensors.measure import Reader


def held_by(optimizers: Iterable[Optimizer]) -> KnownSet[Tensor]:
    """All parameters in the groups of these optimizers."""
    return KnownSet(
        parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]
    )


@dataclass(slots=True)
class Outsider:
    """One leaf that got gradients while no known optimizer held it.

    Attributes:
        since: Windows that had been observed before it was first seen.
        windows: Windows in which a gradient arrived on it.
        arrived: One arrived in the present window.
        buffer: The gradient as the last backward left it.
        norms: Norms of the gradient found before backward calls that added to it.
        cleared: The gradient was found cleared or replaced.
        first: Checksum of the leaf when it was first seen.
    """

    since: int
    windows: int = 0
    arrived: bool = False
    buffer: Look | None = None
    entry: Look | None = None
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
        self.items: Known[Tensor, Outsider] = Known()
        self._explained: KnownSet[Tensor] = KnownSet()
        self._seen: Known[Tensor, int] = Known()

    def enter(self, outside: Sequence[Tensor], observed: int) -> list[tuple[Tensor, Outsider]]:
        """Look at the gradients of these leaves before a backward.

        Args:
            outside: Leaves that the backward will reach and no known optimizer holds.
            observed: Windows observed so far.
        """
        present = []
        for leaf in outside:
            if leaf in self._explained:
                continue
            item = self.items.get(leaf)
            if item is None:
                since = self._seen.setdefault(leaf, observed)
                item = self.items[leaf] = Outsider(since, first=checksum(leaf))
            buffer = leaf.grad
            item.entry = Look(leaf)
            if item.windows and not item.arrived:
                if buffer is None or item.buffer is None or not item.entry.is_in(item.buffer):
                    item.cleared = True
                else:  # zeroed in place, or clipped along with the others: the norm tells
                    item.norms += self._reader.norms([buffer.detach()])
            present.append((leaf, item))
        return present

    @staticmethod
    def leave(present: Iterable[tuple[Tensor, Outsider]]) -> None:
        """Look at them again after the backward."""
        for leaf, item in present:
            if leaf.grad is not None:
                item.buffer = Look(leaf)
                item.arrived = item.arrived or item.buffer != item.entry

    def end_window(self) -> bool:
        """An optimizer stepped; True when a gradient had arrived on an outsider since the step before it."""
        arrived = False
        for item in self.items.values():
            if item.arrived:
                item.windows += 1
                item.arrived = False
                arrived = True
        return arrived

    def ripe(self, windows: int) -> list[tuple[Tensor, Outsider]]:
        """Outsiders that got gradients in at least that many windows."""
        return [(leaf, item) for leaf, item in self.items.items() if item.windows >= windows]

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
        self.items.pop(leaf, None)
        self._explained.add(leaf)

    def forget(self) -> None:
        """Start over, as after a pause in which windows went by unseen; what is explained stays so."""
        self.items.clear()

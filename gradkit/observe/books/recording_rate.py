"""Tells from autograd's own running number whether more was recorded between two backward calls than training needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gradkit.observe.tensors import graph

LEAST_SURPLUS = 1.5
"""Nodes recorded beyond the usual, in those of one backward call, that two unused forwards leave at least."""
LEAST_SHARE = 0.01
"""The same as a share of what was recorded, which varying graphs may stay below."""


class RecordingRate:
    """Every node gets a running number when it is recorded, so two backward calls tell how many lie between them.

    A program that evaluates without `no_grad`, `eval()` or a data loader gives no other sign. What is told here is only
    worth a closer look: graphs of varying size leave a surplus as well.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._nodes = self._calls = 0

    def surplus(self, roots: Iterable[Any], backwards: int) -> bool:
        """Whether forwards were recorded since the last call of this that no backward call accounts for.

        Args:
            roots: The tensors a backward begins at.
            backwards: Backward calls so far; between two calls in a row the usual number is learned.
        """
        number = _number(roots)
        last = self._last
        self._last = None if number is None else (number, backwards)
        if number is None or last is None or number <= last[0] or backwards <= last[1]:
            return False
        nodes, calls = number - last[0], backwards - last[1]
        if calls == 1 or not self._calls:
            self._nodes, self._calls = self._nodes + nodes, self._calls + calls
            return False
        usual = self._nodes / self._calls
        return nodes - usual * calls >= usual * max(LEAST_SURPLUS, LEAST_SHARE * calls)


def _number(roots: Iterable[Any]) -> int | None:
    nodes = graph.roots_of(roots)
    number = getattr(nodes[0], "_sequence_nr", None) if nodes else None
    return int(number()) if number is not None else None

"""Walks autograd graphs by their nodes' public links; reads no saved tensor, so nothing is unpacked or recomputed."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

MAX_NODES = 20_000
"""Nodes visited at most by one walk; a larger graph (a long unrolled one) is known in part."""


_keys = itertools.count(1)


def new_key() -> str:
    """Something no other key for the metadata of nodes has had, since an `id()` is given again."""
    return str(next(_keys))


class Mark:
    """An object put into `grad_fn.metadata` that lives exactly as long as the nodes it was put on.

    Args:
        window: The window in which it was put there, for those who ask.
    """

    __slots__ = ("__weakref__", "window")

    def __init__(self, window: int = 0) -> None:
        self.window = window


def roots_of(tensors: Iterable[Any]) -> list[Any]:
    """The graph nodes of tensors or gradient edges; leaves and constants have none."""
    found = []
    for item in tensors:
        node = getattr(item, "grad_fn", None) if isinstance(item, Tensor) else getattr(item, "node", None)
        if node is not None:
            found.append(node)
    return found


def walk(nodes: Iterable[Any], limit: int = MAX_NODES) -> Iterator[Any]:
    """The nodes reachable from `nodes`, nearest first, each once; the nodes of leaves (`AccumulateGrad`) included."""
    pending = deque(nodes)
    seen = set(pending)
    while pending and limit:
        limit -= 1
        node = pending.popleft()
        yield node
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                pending.append(below)


def leaf_of(node: Any) -> Tensor | None:
    """The leaf that an `AccumulateGrad` node deposits into; None for every other node."""
    leaf = getattr(node, "variable", None)
    return leaf if isinstance(leaf, Tensor) and node.name().endswith("AccumulateGrad") else None


def frontier(nodes: Iterable[Any], limit: int = MAX_NODES) -> list[Any]:
    """The nodes that read a leaf directly: whatever is kept of a graph with parameters keeps one of them alive."""
    return [node for node in walk(nodes, limit) if any(_is_leaf(below) for below, _ in node.next_functions)]


def _is_leaf(node: Any) -> bool:
    return node is not None and node.name().endswith("AccumulateGrad")


def plant(nodes: Iterable[Any], key: str, mark: object) -> int:
    """Put `mark` under `key` into the metadata of each node that has none there yet; returns how many took it."""
    count = 0
    for node in nodes:
        metadata = node.metadata
        if key not in metadata:
            metadata[key] = mark
            count += 1
    return count


def nearest(nodes: Iterable[Any], test: Callable[[Any], Any], limit: int = MAX_NODES) -> Any:
    """The first true result of `test` over the nodes reachable from `nodes`, nearest first; None without one."""
    for node in walk(nodes, limit):
        if result := test(node):
            return result
    return None


def leaves(roots: Iterable[Any], limit: int = MAX_NODES) -> list[Tensor]:
    """The leaves that a backward from `roots` deposits into; those inside a reentrant checkpoint are not among them."""
    found: list[Tensor] = []
    pending = roots_of(roots)
    seen = set(pending)
    while pending and len(seen) < limit:
        for below, _ in pending.pop().next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                if type(below).__name__ == "AccumulateGrad":
                    found.append(below.variable)
                else:
                    pending.append(below)
    return found

"""Follows graphs that a backward was told to keep, and sees whether anything goes through them again; writes Retention.

Every node of a retained graph gets a mark. A later differentiation that reaches a mark used the graph. A mark that died
unreached proves that the graph was kept for nothing: whatever could still have gone through it is gone.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradkit.observe.attention import NEEDLESS_RETENTION, Looks
from gradkit.observe.observer import Observer
from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.source.places import locate
from gradkit.observe.tensors import graph
from gradkit.observe.tensors.known import KnownSet
from gradkit.records import Retention

if TYPE_CHECKING:
    from torch.optim import Optimizer

MAX_OPEN = 64
"""Retained graphs followed at one time."""


@dataclass(slots=True)
class _Kept:
    """One retained graph: its mark, and the line whose backward retained it."""

    place: tuple[CodeType | None, int]
    mark: weakref.ref[graph.Mark]
    nodes: int
    used: bool = False


@dataclass(slots=True)
class _Line:
    """One line that retains graphs."""

    site: Site
    option: str
    unused: int = 0


class NeedlessRetention(Observer):
    """One entry per line; a line that was seen to need its graph once is never looked at again."""

    kinds = (Retention,)

    def __init__(self, monitor: Any) -> None:
        super().__init__(monitor)
        self._key = f"gradkit.retained.{graph.new_key()}"
        self._open: list[_Kept] = []
        self._lines: dict[tuple[CodeType | None, int], _Line] = {}
        self._settled: set[tuple[CodeType | None, int]] = set()
        self._created: tuple[list[Any], graph.Mark] | None = None
        self._unseen = 0
        self._looked = 0
        self._looks = Looks(NEEDLESS_RETENTION)

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Look at as many backward calls as at first."""
        self._looks.begin()
        self._looked = 0
        self.monitor.resume(self)

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """See what this backward goes through, and follow its graph if it is to be kept."""
        nodes = graph.roots_of(roots)
        site = find_site()
        if self._open:
            self._look(nodes)
        if retain_graph or create_graph:
            self._follow(nodes, site, create_graph)
        elif not self._open:
            self._looked += 1
            if self._looked >= self._looks.wanted:
                self._looked = 0
                self.monitor.pause(self, self._looks.rest())

    def leave_backward(self, failed: bool) -> None:
        """With `create_graph` the gradients have a graph of their own; reaching that one is a use too."""
        if self._created is None:
            return
        leaves, mark = self._created
        self._created = None
        if not failed:
            self._plant(graph.roots_of(leaf.grad for leaf in leaves if leaf.grad is not None), mark)

    def enter_grad(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Gradients that are returned are a use like any other."""
        if self._open:
            self._look(graph.roots_of(roots))

    # --- following ------------------------------------------------------------------------------------------------

    def _follow(self, nodes: Sequence[Any], site: Site, create_graph: bool) -> None:
        place = (site.code, site.instruction)
        if place in self._settled or len(self._open) >= MAX_OPEN or not nodes:
            return
        option = "create_graph" if create_graph else "retain_graph"
        self._lines.setdefault(place, _Line(site, option))
        mark = graph.Mark()
        every = list(graph.walk(nodes))
        leaves = [leaf for node in every if (leaf := graph.leaf_of(node)) is not None]
        inner = [node for node in every if graph.leaf_of(node) is None]
        if len(every) >= graph.MAX_NODES or not inner:
            return  # a use of the part that was not visited would go unseen
        self._plant(inner, mark)
        self._open.append(_Kept(place, weakref.ref(mark), len(inner)))
        if create_graph:
            self._created = (leaves, mark)

    def _plant(self, nodes: Sequence[Any], mark: graph.Mark) -> None:
        for node in nodes:
            node.metadata.setdefault(self._key, []).append(mark)

    def _look(self, nodes: Sequence[Any]) -> None:
        """Settle the graphs that are gone, and note those the differentiation that begins now goes through."""
        if self.monitor.backwards_unseen != self._unseen:
            self._unseen = self.monitor.backwards_unseen
            self._open.clear()  # a backward inside another one may have used any of them
            return
        alive: list[_Kept] = []
        for kept in self._open:
            if kept.mark() is not None:
                alive.append(kept)
            elif not kept.used:
                self._judge(kept)
        below = graph.walk(nodes) if alive else ()
        reached = KnownSet(mark for node in below for mark in node.metadata.get(self._key, ()))
        for kept in alive:
            if kept.mark() in reached:
                self._settled.add(kept.place)
        self._open = [kept for kept in alive if kept.place not in self._settled]

    def _judge(self, kept: _Kept) -> None:
        line = self._lines[kept.place]
        line.unused += 1
        location = locate(line.site, self.monitor.models)
        self.monitor.put(
            Retention(
                step=self.monitor.info.steps,
                option=line.option,
                count=line.unused,
                nodes=kept.nodes,
                location=location,
            ),
            source=kept.place,
        )

    def stop(self) -> None:
        """Settle the last graphs that are gone."""
        self._look([])

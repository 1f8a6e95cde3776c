"""Counts the graphs of earlier steps still alive and, when they grow, finds what keeps them; writes GraphCensus.

A mark in the metadata of a graph's first nodes lives as long as any tensor that depends on a parameter through that
graph. Marks are planted in the first windows of a run and in short bursts ever further apart; as long as one of them
outlives its window, every further window is marked too, so that a leak once in fifty steps is still counted.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradkit.observe.attention import PAUSE_AFTER_REPORT, PURSUIT, REPORTS, RETAINED_GRAPHS, Looks
from gradkit.observe.observer import Observer
from gradkit.observe.program import holders
from gradkit.observe.program.living import living_tensors
from gradkit.observe.program.sites import find_site
from gradkit.observe.source.places import locate
from gradkit.observe.taps.mode import INSTRUMENT
from gradkit.observe.tensors import graph
from gradkit.observe.tensors.buffers import Look
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.observe.witnesses.lines import Lines
from gradkit.records import GraphCensus

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.watching import Watching

MAX_TOTALS = 64
"""Living tensors, the newest, among which the total of many losses is looked for."""
GROWTHS = 10
"""Growths in a row that are reported where no rule says how many it needs."""
LINES_AFTER = 3
"""Growths in a row after which one window is instrumented for the lines of its operations."""


class RetainedGraphs(Observer):
    """Counts, and searches once."""

    kinds = (GraphCensus,)

    def __init__(self, monitor: Watching) -> None:
        super().__init__(monitor)
        self._mark_key = f"gradkit.kept.{graph.new_key()}"
        self._root_key = f"gradkit.root.{graph.new_key()}"
        self._line_key = f"gradkit.line.{graph.new_key()}"
        self._rules = [rule for rule in monitor.rules if rule.kind is GraphCensus]
        self._growths_needed = min(int(getattr(rule, "growths", GROWTHS)) for rule in self._rules)
        self._reports = 0
        self._marks: list[tuple[int, bool, weakref.ref[graph.Mark]]] = []
        self._window = 0
        self._begun = 0
        self._new_window = True
        self._survivors = 0
        self._growths = 0
        self._revisited = False
        self._optimizers: KnownSet[Optimizer] = KnownSet()
        self._stepped = False
        self._looks = Looks(RETAINED_GRAPHS)
        self._leaf: weakref.ref[Tensor] | None = None
        self._left: Look | None = None
        self._lines = Lines(monitor, self._line_key)
        self._instrumented = False

    @property
    def attached(self) -> tuple[str, ...]:
        """The mode, while one window is instrumented."""
        return ("torch function mode",) if INSTRUMENT.attached else ()

    def stop(self) -> None:
        """Take the mode off if training ended inside an instrumented window."""
        INSTRUMENT.leave(self._lines)
        INSTRUMENT.settle()

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Count at the first backward of a window, and mark the graph about to be back-propagated."""
        nodes = graph.roots_of(roots)
        if not self._stepped:
            self._follow_by_hand(nodes)
        if self._new_window:
            self._new_window = False
            self._count(nodes)
        self._look_for_revisits(nodes)
        if create_graph or not nodes:
            return  # higher-order optimisation unrolls over several steps on purpose
        mark = graph.Mark(self._window)
        if graph.plant(graph.frontier(nodes), self._mark_key, mark):
            self._marks.append((self._window, retain_graph, weakref.ref(mark)))
        for node in graph.roots_of(root for root in roots if isinstance(root, Tensor) and root.numel() == 1):
            node.metadata[self._root_key] = self._window

    def enter_grad(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Gradients that are returned go through kept graphs as well."""
        self._look_for_revisits(graph.roots_of(roots))

    def _look_for_revisits(self, nodes: Sequence[Any]) -> None:
        """Note a differentiation that goes through the graph of an earlier window; looks only while one is alive."""
        if self._survivors and not self._revisited:
            marks = (node.metadata.get(self._mark_key) for node in graph.walk(nodes))
            self._revisited = any(mark is not None and mark.window < self._window for mark in marks)

    def leave_backward(self, failed: bool) -> None:
        """Remember the gradient as this backward left it, to see when it is cleared."""
        leaf = self._leaf() if self._leaf is not None else None
        self._left = None if leaf is None else Look(leaf)

    def _follow_by_hand(self, nodes: Sequence[Any]) -> None:
        """Without an optimizer a window is over when its gradients have been cleared, replaced or changed."""
        leaf = self._leaf() if self._leaf is not None else None
        if self._left is not None and (leaf is None or not Look(leaf).is_as_left(self._left)):
            self._end_window()
        if leaf is None:
            found = (leaf for node in graph.walk(nodes) if (leaf := graph.leaf_of(node)) is not None)
            leaf = next(found, None)
            self._leaf = None if leaf is None else weakref.ref(leaf)
        self._left = None

    def after_step(self, optimizer: Optimizer) -> None:
        """A window is over."""
        self._stepped = True
        self._optimizers.add(optimizer)
        self._leaf = self._left = None
        self._end_window()

    def _end_window(self) -> None:
        """The next window may be the instrumented one."""
        self._window += 1
        self._new_window = True
        if self._instrumented:
            INSTRUMENT.leave(self._lines)
        elif self._growths >= LINES_AFTER:
            self._instrumented = True  # once for each subject
            INSTRUMENT.enter(self._lines)

    def _count(self, nodes: Sequence[Any]) -> None:
        self._marks = [entry for entry in self._marks if entry[2]() is not None]
        # With several optimizers in turns, the variables of each one's last loss live until its next turn.
        old = self._window - len(self._optimizers)
        kept = [(window, retains) for window, retains, _ in self._marks if window < old]
        survivors = len({window for window, _ in kept})
        if survivors > self._survivors:
            self._growths += 1
        elif survivors < self._survivors:
            self._growths = 0
        grown, self._survivors = survivors > self._survivors, survivors
        if grown:
            retained = all(retains for _, retains in kept)
            total = retained and self._revisited and self._goes_through_an_earlier_loss(nodes)
            if self._growths >= self._needed(retained, total):
                self.monitor.put(self._search({window for window, _ in kept}, retained, total))
                self._reports += 1
                self._rest(PAUSE_AFTER_REPORT if self._reports < REPORTS else math.inf)
                return
        marked = self._window - self._begun
        if (marked >= self._looks.wanted and not survivors) or marked >= PURSUIT:
            self._rest(self._looks.rest())

    def _needed(self, retained: bool, total: bool) -> float:
        """Growths in a row after which some rule is to judge; one that asks for nothing gets as many as any."""
        asked = [getattr(rule, "needed", None) for rule in self._rules]
        return min(self._growths_needed if ask is None else ask(retained, self._revisited, total) for ask in asked)

    def _goes_through_an_earlier_loss(self, nodes: Sequence[Any]) -> bool:
        """Whether what is about to be back-propagated contains the very loss of an earlier window, as a total does.

        A state that is carried along, as in truncated back-propagation through time, leads past those losses.
        """
        if self._growths < self._growths_needed:
            return False
        below = (node for node in graph.walk(nodes) if node not in nodes)
        return any(node.metadata.get(self._root_key, self._window) < self._window for node in below)

    def _rest(self, distance: float) -> None:
        """Forget the marks and sleep for `distance` backward calls."""
        INSTRUMENT.leave(self._lines)
        self._forget()
        self.monitor.pause(self, distance)

    def _forget(self) -> None:
        self._marks.clear()
        self._survivors = self._growths = 0
        self._revisited = False
        self._window += len(self._optimizers) + 1
        self._begun = self._window
        self._optimizers.clear()  # those that step from here on are at work

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Mark as at first; what the loop of another optimizer still holds of its last step is no growth."""
        self._looks.begin()
        self._reports = 0
        self._begun = self._window
        if not INSTRUMENT.attached:
            self._instrumented = False
        if optimizer is not None:
            INSTRUMENT.leave(self._lines)
            self._instrumented = False
            self._forget()
        self.monitor.resume(self)

    # --- what keeps them ------------------------------------------------------------------------------------------

    def _search(self, windows: set[int], retained: bool, total: bool) -> GraphCensus:
        """One pass over the living tensors; the record of this step with what was found."""
        marks = KnownSet(mark for window, _, ref in self._marks if window in windows and (mark := ref()) is not None)
        tensors = living_tensors()
        kept = [tensor for tensor in tensors if self._reaches(tensor.grad_fn, marks)]
        del tensors
        tensor = max(kept[-MAX_TOTALS:], key=self._windows_below, default=None) if total else self._chosen(kept)
        found: dict[str, Any] = {}
        if tensor is not None:
            site = graph.nearest([tensor.grad_fn], lambda node: node.metadata.get(self._line_key))
            holder = holders.find_holder(tensor, (kept,))
            found["operation"] = tensor.grad_fn.name() if tensor.grad_fn is not None else None
            found["location"] = locate(site, self.monitor.models) if site is not None else None
            if holder is not None:
                found |= {"holder": holder.path, "container": holder.container, "length": holder.length}
        return GraphCensus(
            step=self.monitor.info.steps,
            alive=self._survivors,
            growths=self._growths,
            retained=retained,
            revisited=self._revisited,
            total=total,
            backward_line=locate(find_site(), self.monitor.models),
            **found,
        )

    def _reaches(self, node: Any, marks: KnownSet[graph.Mark]) -> bool:
        return bool(graph.nearest([node], lambda below: below.metadata.get(self._mark_key) in marks))

    def _windows_below(self, tensor: Tensor) -> int:
        """Of how many windows a tensor's graph holds the loss: of all, if it is the total."""
        windows = {node.metadata.get(self._root_key) for node in graph.walk([tensor.grad_fn])}
        return len(windows - {None})

    def _chosen(self, kept: Sequence[Tensor]) -> Tensor | None:
        """The tensor to name: the newest that some other one does not merely contain, with a known line if possible."""
        if not kept:
            return None
        nodes: Known[Tensor, Any] = Known((tensor, tensor.grad_fn) for tensor in kept)
        own = set(nodes.values())
        innermost = [
            tensor
            for tensor in kept
            if not graph.nearest([below for below, _ in nodes[tensor].next_functions if below], own.__contains__)
        ]
        # In a chain of graphs the one that contains no other is the oldest, made before any line was written down.
        for group in (innermost, kept):
            lined = [tensor for tensor in group if self._line_key in nodes[tensor].metadata]
            if lined:
                return lined[-1]
        return (innermost or kept)[-1]

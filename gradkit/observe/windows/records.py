"""Writes what was seen of each window into its record, and hands the records on: to sinks, to deep mode, to the rules.

A window that is judged is located and named; of any other one only what the ledger knows is written, and only when
someone wants every window.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.source.clearings import cleared_between, missing
from gradkit.observe.source.places import locate
from gradkit.observe.taps.containment import calling, contain
from gradkit.observe.taps.tap import TAP
from gradkit.observe.windows.deep import Deep
from gradkit.observe.windows.sound import SoundWindows
from gradkit.records import Location, Statement, Window

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from gradkit.observe.books.ledger import Ledger
    from gradkit.observe.books.verdict import Verdict
    from gradkit.observe.watching import Watching


MAX_NAMED = 3
"""Clearings that one record names."""


class _Reported(NamedTuple):
    number: int
    """Of the ledger of the optimizer that showed it first."""
    parameter: weakref.ref[Tensor]
    """Its first."""


class WindowRecords:
    """The records of one monitor's windows.

    Args:
        monitor: Its engine judges the records, its `halt` hears the findings.
        on_window: The first sink, if any.

    Attributes:
        all_are_wanted: Every window has a record, not only one that is to be judged.
    """

    def __init__(self, monitor: Watching, on_window: Callable[[Window], None] | None) -> None:
        self._monitor = monitor
        self._sinks = [calling(on_window)] if on_window is not None else []
        self._deep = Deep(monitor.reader) if monitor.deep else None
        self._backward_sites: dict[int, Site] = {}
        self._lines: dict[tuple[int, Site, Site | None], tuple[Location | None, Location | None]] = {}
        self._missing: dict[tuple[Location | None, Location], tuple[Statement, ...]] = {}
        self._reported: dict[tuple[str, tuple[tuple[int, ...], ...]], _Reported] = {}
        self.all_are_wanted = monitor.deep or monitor.engine.needs_every_window or on_window is not None

    def add_sink(self, sink: Callable[[Window], None]) -> None:
        """Hand every later record to `sink` as well."""
        self._sinks.append(calling(sink))
        self.all_are_wanted = True

    def put(
        self, ledger: Ledger, verdict: Verdict, elsewhere: int, forward_recorded: bool | None, *, judged: bool
    ) -> None:
        """Write the record of the window that a step is about to end, or has ended.

        Args:
            ledger: The optimizer's ledger.
            verdict: What was found about the window.
            elsewhere: Backward calls since the last step, whatever they deposited on.
            forward_recorded: Whether a forward of the window recorded a graph; None when nobody looked.
            judged: Something was found: the record names lines and parameters, and the rules see it.
        """
        optimizer = ledger.reference()
        if optimizer is None:
            return
        window = self._places(optimizer, ledger, verdict) if judged else {}
        window |= self._plain_fields(ledger, verdict, elsewhere, forward_recorded)
        judged = judged or self._monitor.engine.needs_every_window
        if self._deep is not None:
            self._deep.put(window, judged, ledger, verdict, optimizer, self._deliver)
        else:
            self._deliver(Window(**window), judged, ledger.number, ledger)

    def short_writer(self, ledger: Ledger, optimizer: Optimizer, verdict: Verdict) -> SoundWindows | None:
        """What writes the records of windows that are followed the short way; None when nobody wants them.

        Args:
            ledger: The optimizer's ledger.
            optimizer: The optimizer.
            verdict: What all these windows are judged.
        """
        if not self.all_are_wanted:
            return None
        fields = self._plain_fields(ledger, verdict, elsewhere=1, forward_recorded=None) | {"backwards": 1}
        return SoundWindows(fields, ledger, optimizer, self._deep, TAP.first_to_hear, self._deliver)

    def flush(self) -> None:
        """Complete and hand on what still waits for its deep values."""
        if self._deep is not None:
            self._deep.flush(self._deliver)

    # --- what a record says -------------------------------------------------------------------------------------------

    def _places(self, optimizer: Optimizer, ledger: Ledger, verdict: Verdict) -> dict[str, Any]:
        """Lines and names, which take a look at the stack, the source and the modules."""
        models = self._monitor.models
        here = (ledger.number, find_site(), ledger.backward_site)
        if here not in self._lines:  # a loop with a fault comes here at every step
            lines = [locate(site, models, ledger.parameters) for site in here[1:]]
            self._lines[here] = (lines[0], lines[1])
        step_line, backward_line = self._lines[here]
        names = self._monitor.describe(optimizer, [ledger.parameters[index] for index in verdict.concerned])
        site = ledger.backward_site or self._backward_sites.get(ledger.number)  # not looked for in every window
        if site is not None:
            self._backward_sites[ledger.number] = site
        statements, conditional = self._statements(verdict, site, backward_line, step_line)
        return {
            "windows_mixed": {
                info.name: verdict.stale[index] for info, index in zip(names, verdict.stale, strict=False)
            },
            "step_line": step_line,
            "backward_line": backward_line,
            "clearing": statements,
            "clearing_is_conditional": conditional,
            "parameters": tuple(names),
        }

    def _plain_fields(
        self, ledger: Ledger, verdict: Verdict, elsewhere: int, forward_recorded: bool | None
    ) -> dict[str, Any]:
        """What a `Window` holds without a look at the source."""
        return {
            "optimizer": ledger.label,
            "step": ledger.steps,
            "parameter_count": ledger.count if ledger.wrapped else len(ledger.parameters),
            "backwards": ledger.deposits,
            "backwards_anywhere": elsewhere,
            "reused": verdict.reused,
            "empty": verdict.empty,
            "consecutive_empty": ledger.consecutive_empty,
            "forward_recorded": forward_recorded,
            "trained_before": ledger.trained_before,
            "cleared_deposits": ledger.cleared_deposits,
            "cleared": verdict.cleared,
            "consecutive_cleared": ledger.consecutive_cleared,
            "cleared_finite": verdict.cleared_finite,
            "accumulate": self._monitor.accumulate,
        }

    def _statements(
        self, verdict: Verdict, site: Site | None, backward: Location | None, step: Location | None
    ) -> tuple[tuple[Statement, ...], bool | None]:
        """The statements that clear, or should, and whether they stand under a condition; None where unknown."""
        if step is None:
            return (), None
        if verdict.stale:
            if (backward, step) not in self._missing:  # a loop with this fault comes here at every step
                self._missing[backward, step] = tuple(missing(backward, step))
            return self._missing[backward, step], None
        if not verdict.cleared:
            return (), None
        found = cleared_between(site, sys._getframe())
        certain = [item for item in found if not item.conditional]
        named = [item.statement for item in (certain or found)[:MAX_NAMED]]
        return tuple(named), not certain if found else None

    # --- where it goes ------------------------------------------------------------------------------------------------

    def _deliver(self, record: Window, judged: bool, number: int, ledger: Ledger) -> None:
        engine = self._monitor.engine
        for sink in self._sinks:
            try:
                sink(record)
            except BaseException as error:
                where = "The function given to on_window"
                contain(error, where, self._monitor, functools.partial(engine.crashed, where))
        if not judged or self._is_twin(ledger, record):
            return
        for finding in engine.put(record, source=number):
            key = (finding.rule, tuple(ledger.group_ids))
            if key not in self._reported or self._reported[key].parameter() is not ledger.parameters[0]:
                self._reported[key] = _Reported(number, weakref.ref(ledger.parameters[0]))
            self._monitor.halt(finding)

    def _is_twin(self, ledger: Ledger, record: Window) -> bool:
        """Whether another optimizer over the same parameters has this finding already: one defect, one finding."""
        code = "GK101" if record.windows_mixed else "GK102" if record.cleared else "GK103" if record.reused else ""
        first = self._reported.get((code, tuple(ledger.group_ids)))
        # The parameters of a model that is gone may have had the same identities.
        return first is not None and first.number != ledger.number and first.parameter() is ledger.parameters[0]

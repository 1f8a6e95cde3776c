"""`Monitor`: observes a training process or named optimizers, judges as it goes and reports at the end."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from torch.optim import Optimizer

from gradkit.engine import Engine, select_rules
from gradkit.errors import ConfigError, HygieneError, did_you_mean
from gradkit.findings import Finding
from gradkit.observe.books.optimizers import OptimizerBook
from gradkit.observe.gaps import Gaps
from gradkit.observe.halting import halting
from gradkit.observe.observer import Observer
from gradkit.observe.roster import Roster
from gradkit.observe.taps.containment import aside, calling, containing
from gradkit.observe.taps.tap import TAP
from gradkit.observe.targets import sort_targets
from gradkit.observe.tensors.measure import Reader
from gradkit.observe.windows.records import WindowRecords
from gradkit.observe.windows.steps import Steps
from gradkit.records import Record, RunInfo, Window

if TYPE_CHECKING:
    from gradkit.report.report import Report


_REPORTS = ("findings", "always", "never")


class Monitor(OptimizerBook):
    """Watches the named models and optimizers, or with none the whole process, between `start` and `stop`.

    Args:
        targets: `torch.nn.Module` and `torch.optim.Optimizer` objects; naming some judges only those optimizers (with
            only models named, the optimizers that hold any of their parameters).
        deep: Measure every window: norms, share of stale gradient, cosine, effective learning rate.
        on_window: Called with the `Window` of every step, in order.
        accumulate: Declared micro-batches per window.
        frozen: Name patterns of parameters declared frozen, for the rules that need it.
        select: Rule codes or prefixes to run; None is all.
        ignore: Rule codes or prefixes to leave out.
        settings: Rule code to setting values, such as `{"GK102": {"repeats": 3}}`.
        halt_on: `"error"`, `"warning"`, `"note"` or rule codes: the offending step raises `HygieneError`.
        budget: Largest share of wall time spent reading gradient data in standard mode, above 0 and at most 1.
        stream: Where findings are printed at the end; standard error when None.
        report: Print at the end: `"findings"` only when there are some, `"always"`, or `"never"`.
        on_finding: Called with each finding that is new, when it is found.
        suppressed: Says which findings the user has asked not to see; they stop nothing and are reported apart.

    Raises:
        ConfigError: A target or option that cannot be used.
    """

    def __init__(
        self,
        *targets: Any,
        deep: bool = False,
        on_window: Callable[[Window], None] | None = None,
        accumulate: int | None = None,
        frozen: Sequence[str] = (),
        select: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        halt_on: str | Sequence[str] | None = None,
        budget: float = 0.01,
        stream: TextIO | None = None,
        report: str = "findings",
        on_finding: Callable[[Finding], None] | None = None,
        suppressed: Callable[[Finding], bool] | None = None,
    ) -> None:
        if accumulate is not None and (not isinstance(accumulate, int) or accumulate < 1):
            raise ConfigError(f"accumulate must be a whole number of micro-batches of at least 1, not {accumulate!r}.")
        if not 0.0 < budget <= 1.0:
            raise ConfigError(
                f"budget is the largest share of wall time for reads, above 0 and at most 1, not {budget!r}."
            )
        if report not in _REPORTS:
            raise ConfigError(
                f"report must be 'findings', 'always' or 'never', not {report!r}.{did_you_mean(report, _REPORTS)}"
            )
        self.models, self._named = sort_targets(targets)
        self.deep = deep
        self.accumulate = accumulate
        self.frozen = (frozen,) if isinstance(frozen, str) else tuple(frozen)
        self.rules = select_rules(
            (select,) if isinstance(select, str) else select, (ignore,) if isinstance(ignore, str) else ignore, settings
        )
        self.halt_on = halting(halt_on)
        self.engine = Engine(self.rules, None if on_finding is None else calling(on_finding))
        self._suppressed = (lambda finding: False) if suppressed is None else calling(suppressed)
        self._stream = stream
        self._print_at_end = report
        self.reader = Reader(budget)
        self._windows = WindowRecords(self, on_window)
        self._open_book()
        self._gaps = Gaps(self.engine)
        self._running = False
        self._started = 0.0
        self._seconds = 0.0
        self._roster = Roster(self)
        self._steps = Steps(self, self, self._roster, self._windows)

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self, *, look_for_optimizers: bool = True) -> Monitor:
        """Attach and begin to observe; starting twice is refused.

        Args:
            look_for_optimizers: Find those that exist already, by a walk over all objects of the process; needless
                where torch has only just been imported.

        Raises:
            ConfigError: The monitor is already running.
        """
        if self._running:
            raise ConfigError("This monitor is already running; stop it first or make another with `gradkit.watch`.")
        self._running = True
        self._started = time.perf_counter()
        with containing(self, "start"):
            self._steps.start()
            self._roster.start()
        with containing(self, "start"):
            for optimizer in self._named:
                self.known(optimizer)
            if look_for_optimizers and not self._named:
                self._know_living()
        with containing(self, "start"):
            TAP.attach(self._steps)
        return self

    def stop(self) -> Monitor:
        """Detach, settle what is open and print the findings; stopping a stopped monitor does nothing."""
        if not self._running:
            return self
        self._running = False
        self._seconds = time.perf_counter() - self._started
        stuck = None
        for _ in range(2):  # a mistake of ours must not leave anything attached
            with containing(self, "stop"):
                stuck = TAP.detach(self._steps) if stuck is None else stuck
        for end in (self._steps.stop, self._roster.stop, self._windows.flush):
            with containing(self, "stop"):
                end()
        with containing(self, "stop"):
            for name in stuck or ():
                self.gap(f"{name} was wrapped by another tool and could only be made passive", ())
            self._gaps.at_the_end(self, captured=self._steps.capture_seen, ended_at=self._steps.ended_at)
        with containing(self, "stop"):
            self._close_book()
        with containing(self, "stop"):
            if self._print_at_end == "always" or (self._print_at_end == "findings" and self.engine.findings()):
                self.print()
        return self

    def __enter__(self) -> Monitor:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def attached(self) -> tuple[str, ...]:
        """What gradkit has attached to torch for this monitor; empty when it is not running."""
        if not self._running:
            return ()
        return TAP.attached + self._roster.attached

    def settle(self) -> None:
        """Judge what has been measured but not yet read."""
        if self._running:
            with aside():
                self._windows.flush()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings so far, worst first."""
        self.settle()
        return self.engine.findings()

    @property
    def info(self) -> RunInfo:
        """Totals so far."""
        TAP.short.sync()
        seconds = time.perf_counter() - self._started if self._running else self._seconds
        optimizers, parameters = self._totals()
        return RunInfo(
            steps=self._steps.steps_seen,
            backwards=self._steps.backwards_seen,
            optimizers=optimizers,
            parameters=parameters,
            overhead_seconds=self.reader.seconds,
            reads=self.reader.reads,
            seconds=seconds,
        )

    @property
    def backwards(self) -> int:
        """Backward calls so far."""
        TAP.short.sync()
        return self._steps.backwards_seen

    @property
    def backwards_unseen(self) -> int:
        """Backward calls of other threads, of which nothing else is known."""
        return self._steps.backwards_unseen

    def report(self) -> Report:
        """The report: printable as text, `.to_json()` for tools."""
        from gradkit.report.report import Report

        found = self.findings
        return Report(
            findings=tuple(finding for finding in found if not self._suppressed(finding)),
            suppressed=tuple(finding for finding in found if self._suppressed(finding)),
            info=self.info,
            rules=tuple((rule.code, rule.name) for rule in self.rules),
            dropped=self.engine.dropped,
        )

    def print(self, stream: TextIO | None = None) -> None:
        """Print the report; to standard error unless a stream is given, so that standard output stays the script's."""
        with contextlib.suppress(
            OSError, ValueError
        ):  # a closed stream at the end of a process: nobody is left to read
            self.report().print(stream or self._stream or sys.stderr)

    def add_sink(self, sink: Callable[[Window], None]) -> None:
        """Hand every later `Window` to `sink` as well; the training runs write them to `events.jsonl` this way."""
        TAP.fold()
        self._windows.add_sink(sink)

    def contain(self, where: str, error: Exception) -> None:
        """Turn an exception of gradkit's own into GK900 and forget what was known: nothing false may follow from it."""
        self.engine.crashed(f"gradkit's observer ({where})", error)
        self.forget()

    def forget(self) -> None:
        """Drop all that is known about buffers."""
        TAP.fold()
        super().forget()

    # --- observers ----------------------------------------------------------------------------------------------

    def pause(self, observer: Observer, backwards: float = math.inf) -> None:
        """Tell an observer no event until that many further backward calls have begun; a sleeping observer is free."""
        self._roster.pause(observer, backwards)

    def resume(self, observer: Observer) -> None:
        """End a pause at once; an observer that is not paused, or was silenced by its own mistake, stays as it is."""
        self._roster.resume(observer)

    def put(self, record: Record, source: object = None) -> None:
        """Judge a record an observer wrote.

        Args:
            record: The record.
            source: What it is about; rules with `lookback` are handed earlier records of the same source.

        Raises:
            HygieneError: A finding that `halt_on` names.
        """
        if self._steps.ended_at is not None:
            return  # what was seen until then does not show what came of it
        for finding in self.engine.put(record, source=source):
            self.halt(finding)

    def begin_again(self) -> None:
        """A phase of training or a model is new: have all observers look as at first, if there is time for it."""
        TAP.fold()
        self._roster.begin_again(None, self._steps.steps_seen)

    def _entered(self, optimizer: Optimizer) -> None:
        self._roster.begin_again(optimizer, self._steps.steps_seen)
        if self._roster.calls["optimizer_created"]:
            self._roster.tell("optimizer_created", optimizer)

    def halt(self, finding: Finding) -> None:
        """Raise if the user has asked to be stopped by this finding.

        Raises:
            HygieneError: It is one that `halt_on` names.
        """
        if self.halt_on(finding) and not self._suppressed(finding):
            place = finding.location
            where = f" ({place.file}:{place.line})" if place else ""
            raise HygieneError(f"{finding.rule} {finding.name}: {finding.message}{where} {finding.remedy}")

    def gap(self, what: str, silenced: Sequence[str], remedy: str = "") -> None:
        """Say once that `what` could not be observed and which rules that silences."""
        self._gaps.say(what, silenced, remedy)


def watch(*targets: Any, **options: Any) -> Monitor:
    """A `Monitor` over the named models and optimizers, or over the whole process; see `Monitor` for the options.

    Example:
        >>> import torch, gradkit
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with gradkit.watch(model, optimizer) as monitor:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(4, 2)).sum().backward()
        ...         optimizer.step()
        >>> monitor.findings
        ()
    """
    return Monitor(*targets, **options)

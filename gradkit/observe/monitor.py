"""`Monitor`: observes a training process or named optimizers, judges as it goes and reports at the end."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradkit.engine import Engine, select_rules
from gradkit.errors import ConfigError, HygieneError, did_you_mean
from gradkit.findings import Finding
from gradkit.observe.books import judgement
from gradkit.observe.books.followed import Followed
from gradkit.observe.books.ledger import Ledger
from gradkit.observe.books.optimizers import OptimizerBook
from gradkit.observe.books.verdict import Verdict
from gradkit.observe.halting import halting
from gradkit.observe.observer import Observer
from gradkit.observe.program.living import living_optimizers
from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.roster import Roster
from gradkit.observe.taps import tap
from gradkit.observe.taps.tap import TAP
from gradkit.observe.targets import sort_targets
from gradkit.observe.tensors.buffers import is_capturing
from gradkit.observe.tensors.measure import Reader
from gradkit.observe.windows.records import WindowRecords
from gradkit.observe.witnesses.unused_forwards import UnusedForwards
from gradkit.records import Gap, Record, RunInfo, Window

if TYPE_CHECKING:
    from gradkit.report.report import Report


_CLEAN = Verdict()
"""What a step of a sound loop is judged; never written to."""
_REPORTS = ("findings", "always", "never")
_LONG_WAY = "GRADKIT_LONG_WAY"
"""Environment variable for developers: a monitor started while it is set follows every loop the long way."""


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
        self.engine = Engine(self.rules, on_finding)
        self._suppressed = suppressed or (lambda finding: False)
        self._stream = stream
        self._print_at_end = report
        self.reader = Reader(budget)
        self._windows = WindowRecords(self, on_window)
        self.backwards_seen = 0
        self.steps_seen = 0
        self.backwards_unseen = 0
        self._open_book()
        self._forwards: dict[int, UnusedForwards] = {}
        self._open: list[Ledger] = []
        self._judged: dict[int, Verdict | None] = {}
        self._wrapped: set[int] = set()
        self._gaps: set[str] = set()
        self._running = False
        self._long_way = False
        self._started = 0.0
        self._seconds = 0.0
        self._cuda = torch.version.cuda is not None
        self._capture_seen = False
        self._ended_at: int | None = None
        self._roster = Roster(self)

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
        self._ended_at = None
        self._started = time.perf_counter()
        self._long_way = bool(os.environ.get(_LONG_WAY))
        self._roster.start()
        for optimizer in self._named:
            self._register(optimizer)
        if look_for_optimizers and not self._named:
            self._register_living()
        TAP.attach(self)
        return self

    def stop(self) -> Monitor:
        """Detach, settle what is open and print the findings; stopping a stopped monitor does nothing."""
        if not self._running:
            return self
        self._running = False
        self._seconds = time.perf_counter() - self._started
        for name in TAP.detach(self):
            self.gap(f"{name} was wrapped by another tool and could only be made passive", ())
        for forwards in self._forwards.values():
            forwards.finish()
        self._forwards.clear()
        self._roster.stop()
        try:
            self._windows.flush()
            self._note_gaps()
        except Exception as error:  # what is left to do after training must not cost the user the training
            self.contain("stop", error)
        self._close_book()
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
            self._windows.flush()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings so far, worst first."""
        if self._running:
            self._windows.flush()
        return self.engine.findings()

    @property
    def info(self) -> RunInfo:
        """Totals so far."""
        TAP.short.sync()
        seconds = time.perf_counter() - self._started if self._running else self._seconds
        optimizers, parameters = self._totals()
        return RunInfo(
            steps=self.steps_seen,
            backwards=self.backwards_seen,
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
        return self.backwards_seen

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
        TAP.fold()
        self.engine.crashed(f"gradkit's observer ({where})", error)
        for ledger in self._ledger_list:
            ledger.forget()

    # --- observers ----------------------------------------------------------------------------------------------

    @property
    def sees_grad(self) -> bool:
        """Whether anyone hears of gradients that are returned."""
        return bool(self._roster.calls["enter_grad"])

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
        if self._ended_at is not None:
            return  # what was seen until then does not show what came of it
        for finding in self.engine.put(record, source=source):
            self.halt(finding)

    # --- optimizers ---------------------------------------------------------------------------------------------

    def optimizer_created(self, optimizer: Optimizer) -> None:
        """Know an optimizer from its construction on, so that its first window is complete."""
        # The constructor of a subclass goes on after torch's: groups may not be there yet.
        if not self._named and "param_groups" in optimizer.__dict__:
            self._constructed_at = find_site()
            self._register(optimizer)
            self._constructed_at = None

    def _register_living(self) -> None:
        for optimizer in living_optimizers():
            # One whose class never called torch's constructor takes no hooks: its steps are not seen.
            ledger = self._register(optimizer) if hasattr(optimizer, "_optimizer_step_pre_hooks") else None
            if ledger is not None:
                ledger.bystander = True

    def _register(self, optimizer: Optimizer) -> Ledger | None:
        known = self._ledgers.get(id(optimizer))
        if known is not None:
            return known
        ledger = self.enter(optimizer)
        if ledger is not None and self._roster.calls["optimizer_created"]:
            self._roster.tell("optimizer_created", optimizer)
        return ledger

    # --- events -------------------------------------------------------------------------------------------------

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool = False, create_graph: bool = False) -> None:
        """A backward that accumulates into `.grad` begins."""
        self.backwards_seen += 1
        if self._cuda and self._skips_capture():
            return
        wants_site = False
        for ledger in self._ledger_list:
            wants_site = ledger.enter_backward() or wants_site
        self._site = find_site() if wants_site else None
        if self.backwards_seen >= self._roster.wakes_at:
            self._roster.wake(self.backwards_seen)
        if self._roster.calls["enter_backward"]:
            self._roster.tell("enter_backward", roots, retain_graph, create_graph)

    def enter_grad(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Gradients are computed and returned, not accumulated."""
        self._roster.tell("enter_grad", roots, retain_graph, create_graph)

    _site: Site | None = None

    def leave_backward(self, replaces: bool, failed: bool) -> None:
        """That backward is over, or raised."""
        if self._cuda and self._skips_capture():
            return
        site = self._site
        for ledger in self._ledger_list:
            before = ledger.deposits
            ledger.leave_backward(replaces=replaces, failed=failed)
            if site is not None and ledger.deposits != before:
                ledger.backward_site = site
        self._site = None
        if self._roster.calls["leave_backward"]:
            self._roster.tell("leave_backward", failed)

    def before_clipping(self) -> list[Callable[[], None]]:
        """What to call after a clipping by norm, one for each ledger that holds a mixture."""
        return [follow for ledger in self._ledger_list if (follow := ledger.follow_scaling()) is not None]

    def before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """An optimizer begins to step: what it is about to consume is judged, unless a closure will compute it."""
        ledger = self._ledgers.get(id(optimizer)) or self._register(optimizer)
        if ledger is None or (self._cuda and self._skips_capture()):
            return
        calls = self._roster.calls["before_step"]
        if (
            self.accumulate is None
            and not (self._open or calls or self._forwards or kwargs or TAP.backward_depth)
            and len(args) == 1
            and ledger.is_plainly_clean()
        ):
            # Every step of a sound loop ends here; what follows is for doubts.
            ledger.in_step = True
            ledger.consecutive_cleared = ledger.consecutive_empty = 0
            self._open.append(ledger)
            self._judged[ledger.number] = _CLEAN
            if self._windows.all_are_wanted and not self._capture_seen:
                elsewhere = self.backwards_seen + self.backwards_unseen - ledger.backwards_before
                self._windows.put(ledger, _CLEAN, elsewhere, None, judged=False)
            return
        if self._open:
            running = tap.steps_on_stack() - 1
            del self._open[running:]  # steps that raised never came to their post hook
        nested = ledger in self._open
        outer = next((other for other in self._open if _shares(other, ledger)), None) if self._open else None
        self._open.append(ledger)
        if nested:
            return
        ledger.adopt(optimizer)
        ledger.name()
        ledger.in_step = True
        ledger.in_step_deposit = False
        if outer is not None:
            self._wrapped.add(outer.number)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if calls:
            self._roster.tell("before_step", optimizer, callable(closure))
        self._judged[ledger.number] = None
        if callable(closure):
            ledger.enter_closure()
        elif outer is None or self._judged.get(outer.number) is None:
            self._judged[ledger.number] = self._judge(ledger, closure=False)
        else:
            self._judged[ledger.number] = Verdict()

    def after_step(self, optimizer: Optimizer) -> None:
        """The step is over: what it consumed is remembered and a new window begins."""
        ledger = self._ledgers.get(id(optimizer))
        if ledger is None or (self._cuda and self._skips_capture()):
            return
        if len(self._open) == 1 and self._open[0] is ledger:
            del self._open[0]
        elif ledger in self._open:
            self._open.reverse()
            self._open.remove(ledger)
            self._open.reverse()
            if ledger in self._open:
                return  # the inner one of nested calls of one optimizer
        ledger.in_step = False
        verdict = self._judged.pop(ledger.number, None)
        if verdict is _CLEAN and not self._wrapped:
            self.steps_seen += 1
            is_steady = not ledger.adopt(optimizer) and ledger.is_steady()
            ledger.snapshot(_CLEAN)
            ledger.backwards_before = self.backwards_seen + self.backwards_unseen
            if self._roster.calls["after_step"]:
                self._roster.tell("after_step", optimizer)
            if is_steady and self._leaves_only_the_ledger():
                windows = self._roster.wakes_at - self.backwards_seen - 1
                if windows >= 1 and len(TAP.monitors) == 1:
                    writer = self._windows.short_writer(ledger, optimizer, _CLEAN)
                    TAP.short.begin(Followed(self, ledger), optimizer, windows, writer)
            return
        try:
            if ledger.number in self._wrapped:
                # Another optimizer did the work on the same parameters (SAM, Lookahead): this one consumed nothing
                # itself.
                self._wrapped.discard(ledger.number)
                verdict = verdict or Verdict()
            elif verdict is None:
                verdict = self._judge(ledger, closure=True)
        finally:
            self.steps_seen += 1
            if verdict is not None and verdict.empty and not ledger.trained_before and ledger.consecutive_empty == 1:
                self._forwards[ledger.number] = UnusedForwards(self, ledger.parameters)
            ledger.adopt(optimizer)  # a closure may have changed the groups
            ledger.snapshot(verdict or _CLEAN)
            ledger.backwards_before = self.backwards_seen + self.backwards_unseen
        if self._roster.calls["after_step"]:
            self._roster.tell("after_step", optimizer)

    def _leaves_only_the_ledger(self) -> bool:
        """Whether nobody but one ledger looks at the coming windows."""
        calls = self._roster.calls
        return (
            len(self._ledger_list) == 1
            and not (self._long_way or self._open or self._forwards or self.engine.needs_every_window)
            and not (calls["enter_backward"] or calls["leave_backward"] or calls["before_step"] or calls["after_step"])
        )

    def resume_step(self, ledger: Ledger) -> None:
        """An optimizer is stepping, on what its backward left."""
        self._open.append(ledger)
        self._judged[ledger.number] = _CLEAN

    # --- judging ------------------------------------------------------------------------------------------------

    def _judge(self, ledger: Ledger, *, closure: bool) -> Verdict:
        if TAP.backward_depth and not closure:
            ledger.uncertain = True  # a step inside a backward: what this window got is not counted yet
        elsewhere = self.backwards_seen + self.backwards_unseen - ledger.backwards_before
        forwards = self._forwards.pop(ledger.number, None) if self._forwards else None
        recorded = forwards.finish() if forwards is not None else None
        verdict = judgement.judge(ledger, backwards_anywhere=elsewhere, closure=closure)
        if self._capture_seen:
            return Verdict()
        if closure:
            ledger.cleared_deposits = 0  # evaluations of one step (LBFGS) each clear what the one before left
        lost = bool(self.accumulate and ledger.cleared_deposits)
        if self._windows.all_are_wanted or lost or verdict.worth_a_record:
            self._windows.put(ledger, verdict, elsewhere, recorded, judged=lost or verdict.worth_a_record)
        return verdict

    def halt(self, finding: Finding) -> None:
        """Raise if the user has asked to be stopped by this finding.

        Raises:
            HygieneError: It is one that `halt_on` names.
        """
        if self.halt_on(finding) and not self._suppressed(finding):
            place = finding.location
            where = f" ({place.file}:{place.line})" if place else ""
            raise HygieneError(f"{finding.rule} {finding.name}: {finding.message}{where} {finding.remedy}")

    # --- what could not be seen ---------------------------------------------------------------------------------

    @property
    def is_stepping(self) -> bool:
        """Whether an optimizer is in its step."""
        return bool(self._open)

    def ends_for_good(self) -> None:
        """Several threads train at the same time: nothing is observed any more, and nothing open can be settled."""
        self._ended_at = self.steps_seen

    def _skips_capture(self) -> bool:
        if not is_capturing():
            return False
        if not self._capture_seen:
            self._capture_seen = True
            for ledger in self._ledger_list:
                ledger.forget()
        return True

    def _note_gaps(self) -> None:
        if self._capture_seen:
            self.gap("A CUDA graph was captured: its replays run without any hook", ("GK101", "GK102", "GK103"))
        if self._ended_at is not None:
            self.gap(
                f"After {self._ended_at} steps of the run a second thread trained while the first had not come to rest,"
                " and what several threads work on cannot be read safely: from then on nothing was observed",
                [rule.code for rule in self.rules if not rule.code.startswith("GK9")],
                "Watch a run in which one thread trains, or one process for each.",
            )
        stepped = {number for ledger in self._ledger_list if ledger.steps for ids in ledger.group_ids for number in ids}
        for ledger in self._ledger_list:
            if stepped.issuperset(number for ids in ledger.group_ids for number in ids):
                continue  # another optimizer works on these parameters, such as the one that SAM wraps
            if not ledger.steps and ledger.deposits_total >= 2 and "torch._dynamo" in sys.modules:
                self.gap(
                    f"{ledger.label} got gradients of {ledger.deposits_total} backward calls but its steps were not"
                    " visible,"
                    " as when the step itself is compiled",
                    ("GK101", "GK102", "GK103"),
                    "Compile the model rather than the step, or watch one run without compiling.",
                )

    def gap(self, what: str, silenced: Sequence[str], remedy: str = "") -> None:
        """Say once that `what` could not be observed and which rules that silences."""
        if what not in self._gaps:
            self._gaps.add(what)
            self.engine.put(Gap(what=what, silenced=tuple(silenced), remedy=remedy))


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


def _shares(first: Ledger, second: Ledger) -> bool:
    ids = {number for group in first.group_ids for number in group}
    return any(number in ids for group in second.group_ids for number in group)

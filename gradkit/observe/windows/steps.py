"""From events to the verdict of each window: which steps are open, what each consumed, and which way is taken.

A step is followed the short way (`taps.short_way`) while its loop does the same every time, and the long way otherwise.
Both end in the same ledger: the short way hands over through `books.followed`, which goes on here with `resume_step`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from gradkit.observe.books import judgement
from gradkit.observe.books.followed import Followed
from gradkit.observe.books.verdict import Verdict
from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.source.unseen_writes import may_write_unseen
from gradkit.observe.taps import tap
from gradkit.observe.taps.tap import TAP
from gradkit.observe.tensors.buffers import is_capturing
from gradkit.observe.witnesses.unused_forwards import UnusedForwards

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from gradkit.observe.books.ledger import Ledger
    from gradkit.observe.books.optimizers import OptimizerBook
    from gradkit.observe.watching import Hearers, Watching
    from gradkit.observe.windows.records import WindowRecords

_CLEAN = Verdict()
"""What a step of a sound loop is judged; never written to."""
LONG_WAY = "GRADKIT_LONG_WAY"
"""Environment variable for developers: a monitor started while it is set follows every loop the long way."""


class Steps:
    """What the tap tells of one run (`gradkit.observe.taps.events.Hearer`), turned into judged windows.

    Args:
        watching: Whose run it is.
        book: Its optimizers.
        hearers: Its observers.
        windows: Writes its records.

    Attributes:
        backwards_seen: Backward calls so far, but for those the short way has not counted yet.
        steps_seen: Optimizer steps so far, with the same exception.
        backwards_unseen: Backward calls of other threads.
        capture_seen: A CUDA graph was captured: its replays run without any hook.
        ended_at: Steps after which several threads trained at once, and nothing was observed any more.
    """

    def __init__(self, watching: Watching, book: OptimizerBook, hearers: Hearers, windows: WindowRecords) -> None:
        self._watching = watching
        self._book = book
        self._hearers = hearers
        self._windows = windows
        self.backwards_seen = 0
        self.steps_seen = 0
        self.backwards_unseen = 0
        self.capture_seen = False
        self.ended_at: int | None = None
        self._cuda = torch.version.cuda is not None
        self._long_way = False
        self._forwards: dict[int, UnusedForwards] = {}
        self._open: list[Ledger] = []
        self._judged: dict[int, Verdict | None] = {}
        self._wrapped: set[int] = set()
        self._site: Site | None = None

    def start(self) -> None:
        """The run begins to be watched."""
        self.ended_at = None
        self._long_way = bool(os.environ.get(LONG_WAY))

    def stop(self) -> None:
        """It is over: nobody looks at its forwards any more."""
        for forwards in self._forwards.values():
            forwards.finish()
        self._forwards.clear()

    # --- what the tap tells -------------------------------------------------------------------------------------

    @property
    def is_stepping(self) -> bool:
        """Whether an optimizer is in its step."""
        return bool(self._open)

    @property
    def sees_grad(self) -> bool:
        """Whether anyone hears of gradients that are returned."""
        return bool(self._hearers.calls["enter_grad"])

    def contain(self, where: str, error: Exception) -> None:
        """Turn an exception of gradkit's own into GK900 and forget what was known: nothing false may follow from it."""
        self._watching.contain(where, error)

    def forget(self) -> None:
        """Drop what is known of gradients."""
        self._watching.forget()

    def ends_for_good(self) -> None:
        """Several threads train at the same time: nothing is observed any more, and nothing open can be settled."""
        self.ended_at = self.steps_seen

    def optimizer_created(self, optimizer: Optimizer) -> None:
        """Know an optimizer from its construction on, so that its first window is complete."""
        self._book.created(optimizer)

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool = False, create_graph: bool = False) -> None:
        """A backward that accumulates into `.grad` begins."""
        self.backwards_seen += 1
        if self._cuda and self._skips_capture():
            return
        wants_site = False
        for ledger in self._book.ledgers:
            wants_site = ledger.enter_backward() or wants_site
        self._site = find_site() if wants_site else None
        if self.backwards_seen >= self._hearers.wakes_at:
            self._hearers.wake(self.backwards_seen)
        if self._hearers.calls["enter_backward"]:
            self._hearers.tell("enter_backward", roots, retain_graph, create_graph)

    def leave_backward(self, replaces: bool, failed: bool) -> None:
        """That backward is over, or raised."""
        if self._cuda and self._skips_capture():
            return
        site = self._site
        for ledger in self._book.ledgers:
            before = ledger.deposits
            ledger.leave_backward(replaces=replaces, failed=failed)
            if site is not None and ledger.deposits != before:
                ledger.backward_site = site
        self._site = None
        if self._hearers.calls["leave_backward"]:
            self._hearers.tell("leave_backward", failed)

    def enter_grad(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Gradients are computed and returned, not accumulated."""
        self._hearers.tell("enter_grad", roots, retain_graph, create_graph)

    def before_clipping(self) -> list[Callable[[], None]]:
        """What to call after a clipping by norm, one for each ledger that holds a mixture."""
        return [follow for ledger in self._book.ledgers if (follow := ledger.follow_scaling()) is not None]

    def before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """An optimizer begins to step: what it is about to consume is judged, unless a closure will compute it."""
        for ledger in self._book.ledgers:  # there are few, and this takes no call
            if ledger.reference() is optimizer:
                break
        else:
            entered = self._book.known(optimizer)
            if entered is None:
                return
            ledger = entered
        if self._cuda and self._skips_capture():
            return
        calls = self._hearers.calls["before_step"]
        if (
            not (self._watching.accumulate and ledger.cleared_deposits)
            and not (self._open or calls or self._forwards or kwargs or TAP.depth)
            and len(args) == 1
            and ledger.is_plainly_clean()
        ):
            # Every step of a sound loop ends here; what follows is for doubts.
            ledger.in_step = True
            if not ledger.uncertain:
                ledger.consecutive_cleared = ledger.consecutive_empty = 0
            self._open.append(ledger)
            self._judged[ledger.number] = _CLEAN
            if self._windows.all_are_wanted and not self.capture_seen:
                self._windows.put(ledger, _CLEAN, self._since(ledger), None, judged=False)
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
        if not ledger.steps:  # others may have been trained since it was made
            self._hearers.begin_again(optimizer, self.steps_seen)
            calls = self._hearers.calls["before_step"]
        ledger.in_step = True
        ledger.in_step_deposit = False
        if outer is not None:
            self._wrapped.add(outer.number)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if calls:
            self._hearers.tell("before_step", optimizer, callable(closure))
        self._judged[ledger.number] = None
        if callable(closure):
            ledger.enter_closure()
        elif outer is None or self._judged.get(outer.number) is None:
            self._judged[ledger.number] = self._judge(ledger, closure=False)
        else:
            self._judged[ledger.number] = Verdict()

    def after_step(self, optimizer: Optimizer) -> None:
        """The step is over: what it consumed is remembered and a new window begins."""
        innermost = self._open[-1] if self._open else None
        ledger = (
            innermost
            if innermost is not None and innermost.reference() is optimizer
            else self._book.ledger_of(optimizer)
        )
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
            is_same = not ledger.adopt(optimizer)
            is_steady = is_same and ledger.deposits == 1 and len(self._book.ledgers) == 1 and ledger.is_steady()
            ledger.snapshot(_CLEAN)
            ledger.backwards_before = self.backwards_seen + self.backwards_unseen
            if self._hearers.calls["after_step"]:
                self._hearers.tell("after_step", optimizer)
            if is_steady and self._leaves_only_the_ledger():
                windows = self._hearers.wakes_at - self.backwards_seen - 1
                if windows >= 1 and len(TAP.monitors) == 1:
                    writer = self._windows.short_writer(ledger, optimizer, _CLEAN)
                    TAP.follow(Followed(self, ledger), optimizer, windows, writer)
            return
        wrapping = ledger.number in self._wrapped
        try:
            if wrapping:
                # Another optimizer did the work on the same parameters, as in SAM, Lookahead and ZeRO: this one
                # consumed nothing itself.
                self._wrapped.discard(ledger.number)
                verdict = verdict or Verdict()
            elif verdict is None:
                verdict = self._judge(ledger, closure=True)
        finally:
            self.steps_seen += not wrapping  # which the optimizer inside has counted
            if verdict is not None and verdict.empty and not ledger.trained_before and ledger.consecutive_empty == 1:
                self._forwards[ledger.number] = UnusedForwards(self._watching, ledger.parameters)
            ledger.adopt(optimizer)  # a closure may have changed the groups
            ledger.snapshot(verdict or _CLEAN)
            ledger.backwards_before = self.backwards_seen + self.backwards_unseen
        if self._hearers.calls["after_step"]:
            self._hearers.tell("after_step", optimizer)

    # --- the two ways -------------------------------------------------------------------------------------------

    def _leaves_only_the_ledger(self) -> bool:
        """Whether nobody but one ledger looks at the coming windows."""
        calls = self._hearers.calls
        return not (
            self._long_way or self._open or self._forwards or self._watching.engine.needs_every_window
        ) and not (calls["enter_backward"] or calls["leave_backward"] or calls["before_step"] or calls["after_step"])

    def resume_step(self, ledger: Ledger) -> None:
        """An optimizer is stepping, on what its backward left."""
        self._open.append(ledger)
        self._judged[ledger.number] = _CLEAN

    # --- judging ------------------------------------------------------------------------------------------------

    def _since(self, ledger: Ledger) -> int:
        """Backward calls since an optimizer's last step, whatever they deposited on."""
        return self.backwards_seen + self.backwards_unseen - ledger.backwards_before

    def _judge(self, ledger: Ledger, *, closure: bool) -> Verdict:
        if TAP.depth and not closure:
            ledger.uncertain = True  # a step inside a backward: what this window got is not counted yet
        elsewhere = self._since(ledger)
        forwards = self._forwards.pop(ledger.number, None) if self._forwards else None
        recorded = forwards.finish() if forwards is not None else None
        verdict = judgement.judge(
            ledger, backwards_anywhere=elsewhere, closure=closure, may_write_unseen=_may_write_unseen
        )
        if self.capture_seen:
            return Verdict()
        if closure:
            ledger.cleared_deposits = 0  # evaluations of one step (LBFGS) each clear what the one before left
        lost = bool(self._watching.accumulate and ledger.cleared_deposits)
        judged = lost or verdict.worth_a_record
        if self._windows.all_are_wanted or judged:
            self._windows.put(ledger, verdict, elsewhere, recorded, judged=judged)
        return verdict

    def _skips_capture(self) -> bool:
        if not is_capturing():
            return False
        if not self.capture_seen:
            self.capture_seen = True
            self._book.forget()
        return True


def _shares(first: Ledger, second: Ledger) -> bool:
    ids = {number for group in first.group_ids for number in group}
    return any(number in ids for group in second.group_ids for number in group)


def _may_write_unseen() -> bool:
    return may_write_unseen(sys._getframe())

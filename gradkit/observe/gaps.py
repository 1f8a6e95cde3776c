"""What could not be observed: said once each, with the rules that it silences."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from gradkit.engine import Engine
from gradkit.observe.books.optimizers import OptimizerBook
from gradkit.records import Gap

_ZEROING = ("GK101", "GK102", "GK103")


class Gaps:
    """The gaps of one monitor.

    Args:
        engine: Judges them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._said: set[str] = set()

    def say(self, what: str, silenced: Iterable[str], remedy: str = "") -> None:
        """Say once that `what` could not be observed and which rules that silences."""
        if what not in self._said:
            self._said.add(what)
            self._engine.put(Gap(what=what, silenced=tuple(silenced), remedy=remedy))

    def at_the_end(self, book: OptimizerBook, *, captured: bool, ended_at: int | None) -> None:
        """Say what only the end of the run shows.

        Args:
            book: The optimizers of the run.
            captured: A CUDA graph was captured.
            ended_at: Steps of the run after which several threads trained at once, if they did.
        """
        if captured:
            self.say("A CUDA graph was captured: its replays run without any hook", _ZEROING)
        if ended_at is not None:
            self.say(
                f"After {ended_at} steps of the run a second thread trained while the first had not come to rest,"
                " and what several threads work on cannot be read safely: from then on nothing was observed",
                [rule.code for rule in self._engine.rules if not rule.code.startswith("GK9")],
                "Watch a run in which one thread trains, or one process for each.",
            )
        stepped = {number for ledger in book.ledgers if ledger.steps for ids in ledger.group_ids for number in ids}
        for ledger in book.ledgers:
            if stepped.issuperset(number for ids in ledger.group_ids for number in ids):
                continue  # another optimizer works on these parameters, such as the one that SAM wraps
            if not ledger.steps and ledger.deposits_total >= 2 and "torch._dynamo" in sys.modules:
                self.say(
                    f"{ledger.label} got gradients of {ledger.deposits_total} backward calls but its steps were not"
                    " visible, as when the step itself is compiled",
                    _ZEROING,
                    "Compile the model rather than the step, or watch one run without compiling.",
                )

"""Who looks through an instrumented window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradkit.observe.watching import Watching


class Witness:
    """Sees the calls of an instrumented window; an observer hands one to `Instrument.enter`.

    Args:
        monitor: The monitor that is told when the witness makes a mistake.
    """

    def __init__(self, monitor: Watching) -> None:
        self.monitor = monitor

    def calling(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Called before a torch function; what it returns is handed to `called`."""

    def called(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, before: Any) -> None:
        """Called after a torch function that did not raise; nothing given may be kept beyond the window."""

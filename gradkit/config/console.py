"""Where a command prints its tables; imported late, as Rich takes a while to load."""

from __future__ import annotations

from rich.console import Console

from gradkit.config.commands import drop_output


class CommandConsole(Console):
    """A console that goes quiet when its reader has left (`| head`), where Rich's own ends the program with status 1.

    The command goes on: what it writes into files and the status it exits with do not depend on who reads along.
    """

    def on_broken_pipe(self) -> None:
        """Write nothing more."""
        self.quiet = True
        drop_output()

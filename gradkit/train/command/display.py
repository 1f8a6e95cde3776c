"""What a person sees of a run: the lines before it, a progress bar or plain lines, and the table at the end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

REFRESH_SECONDS = 0.2
"""The bar is drawn at most this often; each drawing reads the loss, which waits for the device."""

LINE_SECONDS = 10.0
"""Without a terminal a line is printed at most this often within an epoch."""


class _Console(Console):
    """A console that goes quiet when its reader has gone, where Rich's own ends the program."""

    def on_broken_pipe(self) -> None:
        """Write nothing more."""
        self.quiet = True
        raise BrokenPipeError


class Display:
    """Prints to standard output, and goes silent when that is closed.

    Args:
        progress: `auto` (a bar on a terminal, else lines), `bar`, `lines` or `none`.
        silent: Prints nothing at all (processes other than the first).
    """

    def __init__(self, progress: str = "auto", *, silent: bool = False) -> None:
        self._closed = silent
        self.console = _Console(highlight=False, soft_wrap=not sys.stdout.isatty() if sys.stdout else True)
        bar = progress == "bar" or (progress == "auto" and self.console.is_terminal)
        self.style = "none" if silent or progress == "none" else ("bar" if bar else "lines")

    def say(self, *things: Any) -> None:
        """Print lines or tables; a reader that went away (`| head`) ends the printing, not the run."""
        if self._closed:
            return
        try:
            for thing in things:
                self.console.print(thing, markup=False) if isinstance(thing, str) else self.console.print(thing)
            if sys.stdout is not None:
                sys.stdout.flush()
        except (BrokenPipeError, OSError, ValueError):
            self.close()

    def close(self) -> None:
        """Stop printing; standard output is pointed at nothing so that Python's exit does not fail on it."""
        if self._closed:
            return
        self._closed = True
        self.style = "none"
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (OSError, ValueError, AttributeError):  # standard output is gone altogether
            return

    def follow(self, total_steps: int | None, done: int, found: Callable[[], int] = lambda: 0) -> StepDisplay:
        """The display of a loop about to start at step `done` of `total_steps` (None when unknown).

        Args:
            total_steps: Steps of the whole run.
            done: Steps made before.
            found: Returns how many findings there are so far; asked only when something is drawn.
        """
        return StepDisplay(self, total_steps, done, found)


class StepDisplay:
    """Shows a loop's progress; `step` is cheap and touches the device only when something is drawn."""

    def __init__(self, display: Display, total_steps: int | None, done: int, found: Callable[[], int]) -> None:
        self._display = display
        self._found = found
        self._step = self._first = done
        self._total = total_steps
        self._started = self._next = time.perf_counter()
        self._samples = 0
        self._metric = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._interval = REFRESH_SECONDS if display.style == "bar" else LINE_SECONDS
        if display.style == "bar":
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(compact=True),
                console=display.console,
                auto_refresh=False,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=total_steps, completed=done)
        elif display.style == "lines":
            self._next += self._interval

    def step(self, samples: int, loss: Callable[[], float], grad_norm: Callable[[], float | None]) -> None:
        """Count one step of `samples` samples; the two functions are called only when something is drawn."""
        self._step += 1
        self._samples += samples
        if self._display.style == "none":
            return
        now = time.perf_counter()
        if now < self._next:
            return
        self._next = now + self._interval
        norm = grad_norm()
        norm_text = f"  grad norm {norm:.3g}" if norm is not None else ""
        rate = self._samples / max(now - self._started, 1e-9)
        findings = f"  {count} finding{'s' * (count != 1)}" if (count := self._found()) else ""
        text = f"loss {loss():.4f}{self._metric}{norm_text}  {rate:,.0f} samples/s{findings}"
        if self._bar is not None and self._task is not None:
            try:
                self._bar.update(self._task, completed=self._step, description=text)
                self._bar.refresh()
            except (OSError, ValueError):
                self._bar = None
                self._display.close()
        else:
            of = f"/{self._total}" if self._total is not None else ""
            self._display.say(f"step {self._step}{of}  {text}")

    def evaluated(self, epoch: int, epochs: int, values: Mapping[str, float | None]) -> None:
        """Show the metrics of an evaluation."""
        accuracy = values.get("accuracy")
        self._metric = f"  accuracy {accuracy:.4f}" if accuracy is not None else ""
        # About ten lines a run: enough to follow it, few enough to read.
        if self._display.style == "lines" and (epoch == epochs or epoch % max(1, epochs // 10) == 0):
            shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items() if value is not None)
            self._display.say(f"epoch {epoch}/{epochs}  validation: {shown}")

    def finish(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            try:
                self._bar.stop()
            except (OSError, ValueError):
                self._display.close()


def metric_table(title: str, columns: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Metrics by split: one row a metric, one column a split."""
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("metric")
    for name in columns:
        table.add_column(name, justify="right")
    rows = list(dict.fromkeys(name for values in columns.values() for name in values))
    for row in rows:
        cells = [values.get(row) for values in columns.values()]
        table.add_row(row.replace("_", " "), *("-" if cell is None else f"{cell:.4f}" for cell in cells))
    return table


def fact_table(facts: Sequence[tuple[str, str]]) -> Table:
    """Two columns of plain text: what, and its value."""
    table = Table(show_header=False, show_edge=False, pad_edge=False, box=None)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    return table

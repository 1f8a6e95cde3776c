"""Watches a training run with gradkit itself: findings go into the manifest, deep values into the events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.table import Table
from torch import nn
from torch.optim import Optimizer

import gradkit
from gradkit.records import Window
from gradkit.report.json_report import to_json
from gradkit.report.report import Report
from gradkit.runs.store import RunStore
from gradkit.train.schema.loop import WatchConfig

EVENT = "window"
ROWS_SHOWN = 10
"""Rows of the printed table of windows; steps between them double, so that growth and decay both fit."""
_COLUMNS = {
    "windows_mixed": "windows mixed",
    "fresh_norm_l2": "fresh norm",
    "stale_norm_l2": "stale norm",
    "grad_norm_l2": "consumed norm",
    "cosine": "cosine",
    "effective_learning_rate": "effective lr",
}


class Watching:
    """A monitor around one run's loop, as `watch` of the configuration asks for.

    Args:
        config: The `watch` group.
        model: The model, as built.
        optimizer: torch's own optimizer.
        accumulate: Micro-batches per window, declared to the rules when above 1.
        store: Takes the events of deep mode; None in processes other than the first.
        attempt: Number of this attempt at the run, from 1.
        first_step: Optimizer steps made by earlier attempts.
        flush_every: Steps between two writes of events.
    """

    def __init__(
        self,
        config: WatchConfig,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        accumulate: int,
        store: RunStore | None,
        attempt: int,
        first_step: int,
        flush_every: int,
    ) -> None:
        self._store, self._attempt, self._first, self._every = store, attempt, first_step, flush_every
        self._waiting: list[dict[str, Any]] = []
        self._kept: dict[int, dict[str, Any]] = {}
        self._last: dict[str, Any] | None = None
        deep = config.name == "deep"
        self.monitor = None
        if config.name != "none":
            self.monitor = gradkit.watch(
                model,
                optimizer,
                deep=deep,
                on_window=self._take if deep else None,
                accumulate=accumulate if accumulate > 1 else None,
                select=config.select,
                ignore=config.ignore,
                halt_on=config.halt_on,
                report="never",
            )

    def __enter__(self) -> Watching:
        if self.monitor is not None:
            self.monitor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.monitor is not None:
            self.monitor.stop()
        self._write()

    @property
    def found(self) -> int:
        """Distinct findings so far; reads nothing from the device."""
        return self.monitor.engine.count if self.monitor is not None else 0

    @property
    def report(self) -> Report | None:
        """The monitor's report; None when nothing was watched."""
        return self.monitor.report() if self.monitor is not None else None

    def facts(self, earlier: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """What the manifest says: the totals and the findings, each with its attempt.

        Args:
            earlier: Findings that earlier attempts at this run left in the manifest.
        """
        report = self.report
        if report is None:
            return {"findings": list(earlier)}
        document = to_json(report)
        found = [{**finding, "attempt": self._attempt} for finding in document["findings"]]
        return {
            "watch": {**document["run"], "rules": [rule["code"] for rule in document["rules"]]},
            "findings": [*earlier, *found],
        }

    def growth(self) -> Table | None:
        """How the consumed gradient compared with the fresh one, at steps that double; None without deep values."""
        rows = [*self._kept.values()]
        if self._last is not None and self._last not in rows:
            rows.append(self._last)
        if not rows:
            return None
        table = Table(title="What each step consumed", title_justify="left", show_edge=False, pad_edge=False)
        table.add_column("step", justify="right")
        for heading in _COLUMNS.values():
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(str(row["step"]), *(_cell(row[name]) for name in _COLUMNS))
        return table

    def _take(self, window: Window) -> None:
        values = window.deep
        if values is None:
            return
        event = {
            "event": EVENT,
            "attempt": self._attempt,
            "step": self._first + window.step,
            "optimizer": window.optimizer,
            **{name: getattr(values, name) for name in _COLUMNS},
        }
        self._last = event
        if window.step & (window.step - 1) == 0 and len(self._kept) < ROWS_SHOWN:  # 0 and the powers of two
            self._kept[window.step] = event
        self._waiting.append(event)
        if len(self._waiting) >= self._every:
            self._write()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._store is not None:
            self._store.append(waiting)


def _cell(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.4g}"

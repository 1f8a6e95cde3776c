"""A sweep as it goes: one line for each cell, a bar while it runs, and the reasons below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from gradkit.check.engine.result import COLOURS, ORDER, CheckResult, Line, shown

NARROWEST = 8
"""A column of names is at least so wide, its heading included."""


@dataclass(frozen=True)
class Case:
    """One combination of target, dtype and scale, with its result."""

    target: str
    dtype: str
    scale: float
    result: CheckResult

    @property
    def title(self) -> str:
        """The combination in words."""
        return f"{self.target}, {self.dtype}, scale {self.scale:g}"


class Sweep:
    """Prints the lines of a sweep; nothing for a single cell, whose own table says it all.

    Args:
        console: Where to; a bar is drawn on a terminal only.
        cells: Target, dtype and scale of each cell to come.
    """

    def __init__(self, console: Console, cells: Sequence[tuple[str, str, float]]) -> None:
        self.console = console
        self.told = len(cells) > 1
        self._names = max((len(name) for name, _, _ in cells), default=0)
        self._bar: Progress | None = None
        if self.told and console.is_terminal:
            self._bar = Progress(
                TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                console=console, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task("checking", total=len(cells))
        self._total = len(cells)

    def __enter__(self) -> Sweep:
        if self.told:
            self._line("target", "dtype", "scale", "max rel", "of bound", Text("verdict"))
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, case: Case) -> None:
        """One line for a cell that is done: its worst method."""
        if not self.told:
            return
        worst = max(rows([case]), key=lambda row: (ORDER[row["verdict"]], _number(row["max_rel"])))
        verdict = case.result.verdict
        told = Text(verdict, style=COLOURS[verdict])
        if verdict != "pass":
            told.append(f" {worst['method']}", style="")
        self._line(case.target, case.dtype, f"{case.scale:g}", shown(worst["max_rel"]), shown(worst["of_bound"]), told)
        if self._bar is not None:
            self._bar.advance(self._task)

    def explain(self, cases: Iterable[Case]) -> None:
        """Under the lines, why each cell that did not pass did not; equal reasons once."""
        said: dict[str, list[str]] = {}
        for case in cases:
            for row in rows([case]):
                if row["verdict"] in ("fail", "inconclusive"):
                    said.setdefault(row["reason"], []).append(f"{case.title}, {row['method']}")
        for reason, where in said.items():
            self.console.print()
            for each in where:
                self.console.print(Text(each, style="bold"))
            self.console.print(Padding(Text(reason), (0, 0, 0, 2)))

    def _line(self, target: str, dtype: str, scale: str, error: str, share: str, verdict: Text) -> None:
        room = max(NARROWEST, min(self._names, 24))
        name = target if len(target) <= room else f"{target[: room - 9]}…{target[-8:]}"
        text = Text(f"{name:<{room}} {dtype:<8} {scale:>6} {error:>9} {share:>9}  ")
        self.console.print(text + verdict, soft_wrap=True)


def rows(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """One row per case and method, the worst of its inputs; plain data for lines and charts."""
    found = []
    for case in cases:
        methods: dict[str, Line] = {}
        for line in case.result:
            method = line.subject.partition(",")[0]
            held = methods.get(method)
            if held is None or (ORDER[line.verdict], _size(line)) > (ORDER[held.verdict], _size(held)):
                methods[method] = line
        found += [
            {
                "target": case.target,
                "dtype": case.dtype,
                "scale": case.scale,
                "method": method,
                "verdict": line.verdict,
                **{name: line.measured.get(name) for name in ("max_abs", "max_rel", "max_ulp", "of_bound", "bound")},
                "reason": line.reason,
            }
            for method, line in methods.items()
        ]
    return found


def _size(line: Line) -> float:
    return _number(line.measured.get("max_rel"))


def _number(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else float(value)

"""What an experiment measures of a run: a number of its manifest, or one taken from a curve."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.runs.folders import Run
from gradkit.runs.series import TAKES, Series, read_series

_TAKE = re.compile(r"(?P<how>[a-z]+) of (?P<series>\S+)")
_AT = re.compile(r"at (?P<step>\d{1,12}) of (?P<series>\S+)")
FORMS = f"a name such as test.log_loss, `{TAKES[3]} of SERIES` (or {', '.join(TAKES)}), or `at STEP of SERIES`"


@dataclass(frozen=True)
class Expression:
    """How to get one number from a run.

    Attributes:
        name: Of a metric in the manifest, or of a series.
        how: None for the manifest, one of `TAKES`, or `at`.
        step: With `at`: the value at this step, or at the last recorded one before it.
    """

    name: str
    how: str | None = None
    step: int = 0

    @staticmethod
    def read(text: str, where: str) -> Expression:
        """The expression written as `text`.

        Raises:
            ConfigError: It is none of the forms.
        """
        if found := _AT.fullmatch(text):
            return Expression(found["series"], "at", int(found["step"]))
        if found := _TAKE.fullmatch(text):
            if found["how"] in TAKES:
                return Expression(found["series"], found["how"])
            raise ConfigError(f"{where}: expected {FORMS}, got {quoted(text)}.{did_you_mean(found['how'], TAKES)}")
        if re.fullmatch(r"\S+", text):
            return Expression(text)
        raise ConfigError(f"{where}: expected {FORMS}, got {quoted(text)}.")

    def value(self, run: Run, series: Mapping[str, Series]) -> float | None:
        """The number, or None when the run has nothing of that name."""
        if self.how is None:
            return run.metrics.get(self.name)
        curve = series.get(self.name)
        if curve is None or len(curve.values) == 0:
            return None
        if self.how == "at":
            place = int(np.searchsorted(curve.steps, self.step, side="right")) - 1
            return float(curve.values[place]) if place >= 0 else math.nan
        return curve.take(self.how)


def measure(run: Run, metrics: Mapping[str, str]) -> dict[str, float]:
    """Every metric the run has; its events are read only when one of them needs a curve."""
    expressions = {name: Expression.read(text, name) for name, text in metrics.items()}
    series = read_series(Path(run.folder)) if any(each.how for each in expressions.values()) else {}
    found = {name: each.value(run, series) for name, each in expressions.items()}
    return {name: value for name, value in found.items() if value is not None}

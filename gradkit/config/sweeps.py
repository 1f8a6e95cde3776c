"""Counts the runs of a sweep; the only file here that needs Hydra."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError


def count_arms(overrides: Iterable[Override]) -> int:
    """How many runs a sweep has, without listing them: `range(0,1e12)` is to be refused, not listed.

    Raises:
        ConfigError: A range without an end.
    """
    total = 1
    for each in overrides:
        swept = each.value()
        if isinstance(swept, RangeSweep):
            start, stop, step = swept.start or 0, swept.stop or 0, swept.step
            if not step or not all(math.isfinite(number) for number in (start, stop, step)):
                raise ConfigError(f"{quoted(each.input_line)}: a range takes finite numbers and a step that is not 0.")
            total *= max(0, math.ceil((stop - start) / step))
        elif isinstance(swept, ChoiceSweep):
            total *= len(swept.list)
    return total

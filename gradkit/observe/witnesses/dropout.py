"""Finds dropout that no mode of the model governs: functional calls, seen in one instrumented forward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gradkit.observe.program.sites import Site, caller, find_site
from gradkit.observe.source.conditions import is_unconditional, stands_under_condition
from gradkit.observe.taps.mode import INSTRUMENT
from gradkit.observe.taps.witness import Witness

if TYPE_CHECKING:
    from gradkit.observe.watching import Watching

_FUNCTIONS = {
    "dropout": True,
    "dropout1d": True,
    "dropout2d": True,
    "dropout3d": True,
    "alpha_dropout": False,
    "feature_dropout": True,
    "feature_alpha_dropout": False,
}
"""Functions that drop out, and whether they do when `training` is not given."""
_ATTENTION = "scaled_dot_product_attention"
_TORCH = Path(str(torch.__file__)).parent
_DISPATCH = tuple(
    str(_TORCH / name) for name in ("overrides.py", "nn/functional.py", "_jit_internal.py", "functional.py")
)
_MODULES = str(_TORCH / "nn" / "modules")


class FunctionalDropout(Witness):
    """The calls that dropped something out in one forward, without a layer of torch's asking for it.

    Args:
        monitor: The monitor that asks.
        training: The model is in train mode. Otherwise only a call counts that cannot know of any mode: one that gives
            `training` by a name or an expression, or stands under a condition, may be meant, as Monte-Carlo dropout is.
    """

    def __init__(self, monitor: Watching, training: bool) -> None:
        super().__init__(monitor)
        self.calls: Counter[str] = Counter()
        self.site: Site | None = None
        self._training = training
        self._looks = INSTRUMENT.enter(self)

    def called(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, before: Any) -> None:
        """Note a functional call that dropped something out."""
        name = str(getattr(function, "__name__", ""))
        if not _drops(name, args, kwargs) or _asked_by_module():
            return
        site = find_site()
        place = site.location()
        certain = place is not None and is_unconditional(place, name)
        if self._training or (place is not None and certain and not stands_under_condition(place)):
            self.calls[name] += 1
            self.site = self.site or site

    def finish(self) -> None:
        """End the look."""
        if self._looks:
            INSTRUMENT.leave(self)


def _drops(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if name == _ATTENTION:
        return bool(kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0))
    default = _FUNCTIONS.get(name)
    if default is None:
        return False
    training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else default))
    return bool(training) and bool(kwargs.get("p", args[1] if len(args) > 1 else 0.5))


def _asked_by_module() -> bool:
    """Whether a layer of torch made the call, which follows its own mode."""
    frame = caller()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_DISPATCH):
        frame = frame.f_back
    return frame.f_code.co_filename.startswith(_MODULES)

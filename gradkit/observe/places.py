"""From a site on the stack to the line a finding names, also when a framework's loop made the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from gradkit.observe import source
from gradkit.observe.names import living_roots
from gradkit.observe.sites import function_of
from gradkit.records import Location

if TYPE_CHECKING:
    from gradkit.observe.sites import Site

_STEP_FUNCTIONS = {"lightning": ("training_step",)}


def locate(site: Site | None, models: Sequence[nn.Module]) -> Location | None:
    """The user's line for a site.

    When a framework called, its loop hides the user's call: the line is then where the user's own step function returns
    its loss (Lightning's `training_step`), else the line that started the loop.
    """
    if site is None:
        return None
    started = site.location()
    for name in _STEP_FUNCTIONS.get(site.framework or "", ()):
        for model in [*models, *living_roots()]:
            function = getattr(type(model), name, None)
            code = getattr(function, "__code__", None)
            if code is None or "/site-packages/" in code.co_filename:
                continue
            line = source.return_line(code.co_filename, code.co_firstlineno) or code.co_firstlineno
            return Location(code.co_filename, line, function_of(code), site.framework)
    return started

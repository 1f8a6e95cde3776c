"""From a site on the stack to the line a finding names, also when a framework's loop made the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gradkit.observe.program.living import living_roots, living_trainers
from gradkit.observe.program.sites import function_of, shown_name
from gradkit.observe.source import reading
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.records import Location

if TYPE_CHECKING:
    from gradkit.observe.program.sites import Site

_STEP_FUNCTIONS = {"lightning": ("training_step",), "transformers": ("compute_loss",)}


def locate(site: Site | None, models: Sequence[nn.Module], parameters: Sequence[Tensor] = ()) -> Location | None:
    """The user's line for a site.

    When a framework called, its loop hides the user's call: the line is then where the user's own step function returns
    its loss (Lightning's `training_step`, `compute_loss` of a Hugging Face trainer), else the line that started the
    loop.

    Args:
        site: Where the call was made.
        models: The models named to the monitor.
        parameters: What the call was about; of several modules or trainers alive the one that holds them is meant.
    """
    if site is None:
        return None
    for name in _STEP_FUNCTIONS.get(site.framework or "", ()):
        if not parameters:
            place = _step_function(name, site.framework, models, parameters)
        elif (place := _known.get(parameters[0], _UNKNOWN)) is _UNKNOWN:
            place = _known[parameters[0]] = _step_function(name, site.framework, models, parameters)
        if place is not None:
            return place
    return site.location()


# A faulty run asks for the same line at every step, and the search passes over all objects of the process.
_known: Known[Tensor, Location | None] = Known()
_UNKNOWN = Location("", 0, "")


def _step_function(
    name: str, framework: str | None, models: Sequence[nn.Module], parameters: Sequence[Tensor]
) -> Location | None:
    """Where the user's own step function of that name returns its loss; None when there is none."""
    owners = living_trainers() if framework == "transformers" else [*models, *living_roots()]
    for owner in _holders_first(owners, parameters):
        code = getattr(getattr(type(owner), name, None), "__code__", None)
        if code is None or "/site-packages/" in code.co_filename:
            continue
        file = shown_name(code.co_filename)
        line = reading.return_line(file, code.co_firstlineno) or code.co_firstlineno
        return Location(file, line, function_of(code), framework)
    return None


def _holders_first(owners: Sequence[Any], parameters: Sequence[Tensor]) -> list[Any]:
    """Modules, or trainers with a `model`, in order, those that hold any of the parameters first."""
    wanted = KnownSet(parameters)

    def holds(owner: Any) -> bool:
        module = owner if isinstance(owner, nn.Module) else getattr(owner, "model", None)
        return isinstance(module, nn.Module) and wanted.holds_any(module.parameters())

    return sorted(owners, key=lambda owner: not holds(owner))

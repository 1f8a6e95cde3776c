"""Names for parameters: from the models named to the monitor, else from the modules alive in the process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from gradkit.observe.program.living import living_roots
from gradkit.observe.tensors.known import Known
from gradkit.records import ParameterInfo

if TYPE_CHECKING:
    from torch.optim import Optimizer

_WRAPPERS = ("_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_ANYWHERE = tuple(wrapper for wrapper in _WRAPPERS if wrapper.startswith("_"))


def plain_name(name: str) -> str:
    """A parameter's name without the prefixes that compiling, sharding and other wrappers add.

    Example:
        >>> plain_name("_orig_mod.module.head.weight")
        'head.weight'
    """
    for wrapper in _WRAPPERS:
        if name.startswith(wrapper):
            return plain_name(name[len(wrapper) :])
        name = name.replace("." + wrapper, ".") if wrapper in _ANYWHERE else name
    return name


class Namer:
    """Names parameters of one optimizer for messages.

    Args:
        models: The models named to the monitor; empty means the living modules are searched, once per new optimizer.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self._models = list(models)
        # What was found before: a step that is reported a thousand times asks for the same names a thousand times.
        self._known_names: Known[Tensor, str] = Known()

    def describe(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[ParameterInfo]:
        """One entry per parameter, in order; unnamed ones as their place in the optimizer."""
        if any(parameter not in self._known_names for parameter in parameters):
            found_now = self._known(self._models)
            if any(parameter not in found_now for parameter in parameters):
                found_now = Known([*self._known(living_roots()).items(), *found_now.items()])
            for parameter in parameters:
                self._known_names.setdefault(parameter, found_now.get(parameter, ""))
        places: Known[Tensor, str] = Known()
        for group_number, group in enumerate(optimizer.param_groups):
            own = group.get("param_names") or ()
            for place, parameter in enumerate(group["params"]):
                fallback = f'optimizer.param_groups[{group_number}]["params"][{place}]'
                places[parameter] = own[place] if place < len(own) else fallback
        found = []
        for parameter in parameters:
            known = self._known_names[parameter]
            name = known or places.get(parameter, "a parameter that left the optimizer")
            module = name.rpartition(".")[0] if known else None
            found.append(ParameterInfo(name, tuple(parameter.shape), module))
        return found

    @staticmethod
    def _known(models: Iterable[nn.Module]) -> Known[Tensor, str]:
        known: Known[Tensor, str] = Known()
        for model in models:
            for name, parameter in model.named_parameters(remove_duplicate=True):
                known.setdefault(parameter, plain_name(name))
        return known

"""Which living module a parameter belongs to, also through plain containers that `parameters()` does not see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from gradkit.observe.program.living import living_roots
from gradkit.observe.program.names import plain_name
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.records import ParameterInfo

MAX_ITEMS = 10_000
"""Entries of one plain container that are looked through for modules."""


@dataclass(slots=True)
class Model:
    """A module that is part of no other, and the parameters it reaches.

    Attributes:
        module: The module.
        names: Parameter to its name, in the order of `named_parameters`.
        containers: Parameter to (container name, modules in it) for those reached only through a plain container.
        owners: Parameter to the module that holds it itself.
        places: Parameter to its place in the order of `named_parameters`.
    """

    module: nn.Module
    names: Known[Tensor, str] = field(default_factory=Known)
    containers: Known[Tensor, tuple[str, int]] = field(default_factory=Known)
    owners: Known[Tensor, nn.Module] = field(default_factory=Known)
    places: Known[Tensor, int] = field(default_factory=Known)

    def add(self, module: nn.Module, prefix: str, container: tuple[str, int] | None = None) -> None:
        """Add the parameters of `module` under `prefix`."""
        for path, child in module.named_modules(prefix=prefix.rstrip(".")):
            for name, parameter in child.__dict__.get("_parameters", {}).items():
                if parameter is None or parameter in self.names:
                    continue
                self.names[parameter] = plain_name(f"{path}.{name}" if path else name)
                self.owners[parameter] = child
                self.places[parameter] = len(self.places)
                if container is not None:
                    self.containers[parameter] = container

    def describe(self, parameter: Tensor) -> ParameterInfo:
        """Name, shape and module of one of its parameters."""
        name = self.names[parameter]
        return ParameterInfo(name, tuple(parameter.shape), name.rpartition(".")[0])

    def hidden_in(self, parameters: Sequence[Tensor]) -> tuple[str | None, int]:
        """The one plain container that hides all of these, and the modules in it; None when there is no such."""
        found = {self.containers.get(parameter) for parameter in parameters}
        container = found.pop() if len(found) == 1 else None
        return container or (None, 0)

    def upstream(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
        """Whether all of `first` come before all of `second`."""
        return bool(second) and max(self.places[item] for item in first) < min(self.places[item] for item in second)

    def trains_only(self, parameters: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
        """Whether modules of `parameters` are in train mode while all modules of `others` are in eval mode."""
        training = any(self.owners[parameter].training for parameter in parameters)
        return training and not any(self.owners[parameter].training for parameter in others)


def models(named: Sequence[nn.Module] = ()) -> list[Model]:
    """The named models, or every living one; modules hidden in a plain list or dict of another count as its part."""
    roots = list(named) or living_roots()
    everything = living_roots() if named else roots
    homes = Known((root, Model(root)) for root in roots)
    for root in roots:
        homes[root].add(root, "")
    hidden: Known[nn.Module, tuple[nn.Module, str, tuple[str, int]]] = Known()
    known = KnownSet(everything)
    for root in roots:
        for path, module in root.named_modules():
            for label, inner, size in _in_containers(module):
                if inner in known and inner is not root and inner not in hidden:
                    place = f"{path}.{label}" if path else label
                    hidden[inner] = (root, place, (place.partition("[")[0], size))
    for inner, (root, place, container) in hidden.items():
        homes[root].add(inner, place + ".", container)
    # A hidden module that is also a model of its own would be counted twice.
    return [home for root, home in homes.items() if root not in hidden]


def _in_containers(module: nn.Module) -> Iterator[tuple[str, nn.Module, int]]:
    """Modules in plain lists, tuples and dicts among the attributes of `module`: label, module, modules beside it."""
    for name, value in list(module.__dict__.items()):
        if name.startswith("_") and name in _TORCH_ATTRIBUTES:
            continue
        found = list(_modules_of(name, value, 2))
        for label, inner in found:
            yield label, inner, len(found)


_TORCH_ATTRIBUTES = frozenset(vars(nn.Module()))


def _modules_of(label: str, value: Any, depth: int) -> Iterator[tuple[str, nn.Module]]:
    entries: Iterable[tuple[str, Any]]
    if type(value) is dict:
        entries = [(f"{label}[{key!r}]", item) for key, item in list(value.items())[:MAX_ITEMS]]
    elif type(value) in (list, tuple):
        entries = [(f"{label}[{index}]", item) for index, item in enumerate(value[:MAX_ITEMS])]
    else:
        return
    for place, item in entries:
        if issubclass(type(item), nn.Module):
            yield place, item
        elif depth > 1:
            yield from _modules_of(place, item, depth - 1)


def home_of(leaf: Tensor, homes: Sequence[Model], held: KnownSet[Tensor]) -> Model | None:
    """The model a leaf belongs to; of several, the one in which most parameters are held."""
    mine = [home for home in homes if leaf in home.names]
    return max(mine, key=lambda home: sum(parameter in held for parameter in home.names), default=None)

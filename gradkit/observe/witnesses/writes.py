"""Sees, in one instrumented window, which parameters were used and then overwritten in a way autograd cannot see."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradkit.observe.program.sites import Site, caller, find_site, is_user_code
from gradkit.observe.taps.witness import Witness
from gradkit.observe.tensors import graph
from gradkit.observe.tensors.arguments import is_in_place, name_of, tensors_in
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.observe.tensors.measure import same
from gradkit.observe.tensors.memory import memory_of

if TYPE_CHECKING:
    from gradkit.observe.watching import Watching


@dataclass(frozen=True, slots=True)
class Write:
    """One invisible write to one parameter."""

    parameter: Tensor
    order: int
    operation: str
    site: Site


class Writes(Witness):
    """The uses and the writes of one window, in the order of its calls.

    Args:
        monitor: Told of mistakes.
        parameters: The parameters to watch.
    """

    def __init__(self, monitor: Watching, parameters: Sequence[Tensor]) -> None:
        super().__init__(monitor)
        self.writes: list[Write] = []
        self._key = f"gradkit.uses.{graph.new_key()}"
        self._parameters = KnownSet(parameters)
        self._memory = {pointer: p for p in parameters if (pointer := memory_of(p)) is not None}
        self._before: Known[Tensor, Tensor] = Known()
        self._used: KnownSet[Tensor] = KnownSet()
        self._order = 0

    def calling(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The versions of the parameters about to be written to, and a copy of each that was used before."""
        self._order += 1
        targets: Known[Tensor, int] = Known()
        name = name_of(function)
        if name == ".data =" or is_in_place(name) or name == "__setitem__" or "out" in kwargs:
            for tensor in (*tensors_in(args[:1], 1), *tensors_in(kwargs.get("out"), 2)):
                parameter = self._parameter_of(tensor)
                if parameter is not None:
                    targets[parameter] = parameter._version
                    if parameter in self._used and parameter not in self._before:
                        with torch.no_grad():
                            self._before[parameter] = parameter.detach().clone()
        return targets

    def called(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, before: Any) -> None:
        """A use puts its place in the order onto the node it made; a write that moved no version is invisible."""
        name = name_of(function)
        for parameter, version in (before or {}).items():
            if parameter._version == version and _is_the_users():
                self.writes.append(Write(parameter, self._order, name, find_site()))
                # `.data = x` gave the parameter other memory.
                pointer = memory_of(parameter)
                if pointer is not None:
                    self._memory[pointer] = parameter
        if not torch.is_grad_enabled() or name in (".data", ".data =", ".grad", "requires_grad_"):
            return
        used = [tensor for tensor in tensors_in((args, kwargs)) if tensor in self._parameters]
        if used:
            self._used.update(used)
            site = find_site()
            for tensor in tensors_in(result, 2):
                node: Any = tensor.grad_fn  # torch's stubs know no metadata
                if node is not None:
                    node.metadata.setdefault(self._key, []).extend(
                        (weakref.ref(item), self._order, site) for item in used
                    )

    def verdict(self, roots: Sequence[Tensor]) -> Iterator[tuple[Write, Site]]:
        """The writes that came after a use the graph of `roots` contains and that changed the values, with that use."""
        uses: Known[Tensor, tuple[int, Site]] = Known()
        for node in graph.walk(graph.roots_of(roots)):
            for reference, order, site in node.metadata.get(self._key, ()):
                parameter = reference()
                if parameter is not None and (parameter not in uses or order < uses[parameter][0]):
                    uses[parameter] = (order, site)
        for write in self.writes:
            use = uses.get(write.parameter)
            if use is not None and use[0] < write.order and self._changed(write.parameter):
                yield write, use[1]

    def _changed(self, parameter: Tensor) -> bool:
        before, now = self._before[parameter], parameter.detach()
        return before.shape != now.shape or not same(before, now)

    def _parameter_of(self, tensor: Tensor) -> Tensor | None:
        if tensor in self._parameters:
            return tensor
        pointer = memory_of(tensor)
        return self._memory.get(pointer) if pointer is not None else None


def _is_the_users() -> bool:
    """Whether the user's own code made the call, perhaps through a helper of torch; libraries may move weights."""
    frame = caller()
    while "/torch/" in frame.f_code.co_filename and "/torch/distributed/" not in frame.f_code.co_filename:
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return is_user_code(frame.f_code.co_filename)

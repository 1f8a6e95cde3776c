"""Sees which parameters the backward of a custom function answers None for.

A hook on the nodes of the user's own `torch.autograd.Function`s, for the length of one window, says what they answered;
a parameter for which the answer is None stays without a gradient although the graph leads to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from gradkit.observe.program.sites import is_user_code
from gradkit.observe.taps.containment import contained
from gradkit.observe.tensors import graph
from gradkit.observe.tensors.known import Known, KnownSet

if TYPE_CHECKING:
    from gradkit.observe.watching import Watching


@dataclass(frozen=True, slots=True)
class Answer:
    """None, as the gradient of one argument of a custom function.

    Attributes:
        function: Name of the function's class.
        backward: Code of its `backward`.
        argument: Index of the argument of its `forward`, from 0, the context not counted.
        arguments: How many arguments the function takes.
    """

    function: str
    backward: CodeType
    argument: int
    arguments: int


class Answers:
    """What the custom functions of one window answered, for the parameters below them.

    Args:
        monitor: Told of mistakes.
        wanted: The parameters that are asked about.
    """

    def __init__(self, monitor: Watching, wanted: Iterable[Tensor]) -> None:
        self._monitor = monitor
        self._wanted = KnownSet(wanted)
        self._hooks: list[Any] = []
        self._given: Known[Tensor, dict[Answer, None]] = Known()

    def listen(self, nodes: Iterable[Any]) -> None:
        """Hear the answers of the user's custom functions among the nodes of a graph that is about to run backward."""
        for node in nodes:
            if isinstance(node, BackwardCFunction):
                function = vars(type(node))["_forward_cls"]
                code = _backward_of(function)
                if code is not None:
                    self._hooks.append(node.register_hook(self._hook(function.__name__, code, node)))

    def stop(self) -> None:
        """Take the hooks off; a retained graph would keep them."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def of(self, parameter: Tensor) -> Sequence[Answer]:
        """The answers None that stand between the graph and a parameter."""
        return tuple(self._given.get(parameter, ()))

    def _hook(self, function: str, code: CodeType, asked: Any) -> Any:
        # The edges stand in for the node, which its own hook would keep alive. Those of arguments that need a gradient
        # lead on, in the order of the arguments.
        edges = [(index, node) for index, (node, _) in enumerate(asked.next_functions) if node is not None]
        needed = asked.needs_input_grad
        arguments = [index for index, need in enumerate(needed) if need]

        @contained
        def hook(given: Sequence[Tensor | None], received: Sequence[Tensor | None]) -> None:
            if all(gradient is None for gradient in received):
                return  # nothing came from above: None is all that can be answered
            for (edge, below), argument in zip(edges, arguments, strict=True):
                if given[edge] is None:
                    self._hear(Answer(function, code, argument, len(needed)), below)

        return hook

    def _hear(self, answer: Answer, below: Any) -> None:
        for node in graph.walk([below]):
            leaf = graph.leaf_of(node)
            if leaf is not None and leaf in self._wanted:
                self._given.setdefault(leaf, {})[answer] = None


def _backward_of(function: Any) -> CodeType | None:
    """The code of the `backward` of a custom function, where it is the user's own."""
    written = getattr(function, "backward", None)
    if written is torch.autograd.Function.backward:
        written = getattr(function, "vjp", None)
    code = getattr(inspect.unwrap(written), "__code__", None) if callable(written) else None
    return code if isinstance(code, CodeType) and is_user_code(code.co_filename) else None

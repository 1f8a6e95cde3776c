"""The one registry of what is replaced in torch: wrappers that are there while somebody listens, and then are gone.

No other file of gradkit sets an attribute on torch. A `Patch` says what is replaced and by what; several patches of one
attribute lie over each other, come and go in any order, and each is there once per process whatever the number of its
listeners.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

from torch.compiler import is_compiling

from gradkit.observe.taps.containment import contained

Wrap = Callable[[Callable[..., Any], Sequence[Any]], Any]
"""Makes a wrapper from the original and the listeners, a list that changes and is empty once the wrapper is to do
nothing. It calls the original exactly once, hands on its result and its exception, and does nothing of ours while
`torch.compiler.is_compiling()`."""


class Patch:
    """One attribute of a module or class of torch that is replaced by a wrapper while it has listeners.

    Args:
        label: How the attachment is listed, such as `torch.optim.Optimizer.__init__`.
        owner: Returns the object whose attribute is replaced; called when the first listener comes.
        name: The attribute.
        wrap: Makes the wrapper; see `telling` for the usual ones.
    """

    def __init__(self, label: str, owner: Callable[[], Any], name: str, wrap: Wrap) -> None:
        self.label = label
        self.wrap = wrap
        self._owner = owner
        self._name = name
        self._layer: _Layer | None = None

    @property
    def listeners(self) -> Sequence[Any]:
        """Who listens now."""
        return self._layer.listeners if self._layer is not None else ()

    def listen(self, listener: Any) -> None:
        """Add a listener; the first one puts the wrapper in place."""
        if self._layer is None:
            layer = _Layer(self.wrap)
            _place(self._owner(), self._name).put(layer)
            self._layer = layer
        self._layer.listeners.append(listener)

    def leave(self, listener: Any) -> bool:
        """Remove a listener, if it listens; the last one takes the wrapper off.

        Returns:
            False when another tool wrapped ours since, so that it could only be made passive.
        """
        layer = self._layer
        if layer is None or listener not in layer.listeners:
            return True
        layer.listeners.remove(listener)
        if layer.listeners:
            return True
        self._layer = None
        return _place(self._owner(), self._name).take_off(layer)


class _Layer:
    """One wrapper that is in place: what it was put over, and who listens."""

    def __init__(self, wrap: Wrap) -> None:
        self.listeners: list[Any] = []
        self.wrap = wrap
        self.below: Any = None
        self.new: Any = None

    def put_over(self, below: Any) -> Any:
        self.below = below
        self.new = self.wrap(below, self.listeners)
        return self.new


class _Place:
    """One attribute and the wrappers of ours over it, the undermost first."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner = owner
        self._name = name
        self._layers: list[_Layer] = []

    def put(self, layer: _Layer) -> None:
        setattr(self._owner, self._name, layer.put_over(self._owner.__dict__[self._name]))
        self._layers.append(layer)

    def take_off(self, layer: _Layer) -> bool:
        """Take one wrapper out, from under others of ours too; False when another tool holds on to it."""
        over = self._layers[self._layers.index(layer) + 1 :]
        self._layers.remove(layer)
        chain = [layer, *over]
        held = [upper.below is not lower.new for lower, upper in zip(chain, over, strict=False)]
        if any(held) or self._owner.__dict__.get(self._name) is not chain[-1].new:
            return False
        top = layer.below
        for upper in over:
            top = upper.put_over(top)
        setattr(self._owner, self._name, top)
        return True


_places: dict[tuple[int, str], _Place] = {}


def _place(owner: Any, name: str) -> _Place:
    key = (id(owner), name)
    if key not in _places:
        _places[key] = _Place(owner, name)  # which keeps the owner: its identity is never used again
    return _places[key]


# --- the usual wrapper ----------------------------------------------------------------------------------------------


def telling(
    *,
    before: Callable[..., None] | None = None,
    after: Callable[..., None] | None = None,
    failed: Callable[..., None] | None = None,
) -> Wrap:
    """A wrapper that tells the listeners.

    Args:
        before: Called with the listeners and the arguments before the original.
        after: Called with the listeners, the result and the arguments once the original has returned.
        failed: Called with the listeners, the exception and the arguments when it, or `before`, raised.
    """
    before, after, failed = (None if tell is None else contained(tell) for tell in (before, after, failed))

    def wrap(original: Callable[..., Any], listeners: Sequence[Any]) -> Any:
        @functools.wraps(original)
        def in_place(*args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return original(*args, **kwargs)
            tells = bool(listeners)
            try:
                if before is not None and tells:
                    before(listeners, *args, **kwargs)
                result = original(*args, **kwargs)
            except BaseException as error:
                if failed is not None and tells:
                    failed(listeners, error, *args, **kwargs)
                leave_no_frame(error)
                raise
            if after is not None and tells:
                after(listeners, result, *args, **kwargs)
            return result

        return staticmethod(in_place) if isinstance(original, staticmethod) else in_place

    return wrap


def _unseen_by_warnings(code: CodeType) -> CodeType:
    """The same code with the wrapper in it passed over by warnings: what torch warns of is its caller's.

    Python's `warnings` leaves out the frames of its import system, which it knows by the name of their file; so a
    `stacklevel` that torch has counted still names the user's line.
    """
    constants = tuple(_unseen_by_warnings(item) if isinstance(item, CodeType) else item for item in code.co_consts)
    name = "<gradkit, in place of importlib._bootstrap>" if code.co_name == "in_place" else code.co_filename
    return code.replace(co_consts=constants, co_filename=name)


telling.__code__ = _unseen_by_warnings(telling.__code__)


def leave_no_frame(error: BaseException) -> None:
    """Take the calling function out of a traceback that the program is going to see; a bare `raise` must follow."""
    traceback = error.__traceback__
    if traceback is not None:
        error.__traceback__ = traceback.tb_next

"""Places in torch that are wrapped while somebody listens, once per process whatever the number of monitors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Point:
    """One attribute of a module or class of torch that is replaced by a wrapper while it has listeners.

    Args:
        label: How the attachment is listed, such as `torch.optim.Optimizer.add_param_group`.
        owner: Returns the object whose attribute is replaced; called when the first listener comes.
        name: The attribute.
        wrap: Makes the wrapper from the original and the point. It must call the original exactly once, hand on its
            result and its exception, and tell `point.listeners` in between; it must do nothing of ours while
            `torch.compiler.is_compiling()`.
    """

    def __init__(
        self, label: str, owner: Callable[[], Any], name: str, wrap: Callable[[Callable[..., Any], Point], Any]
    ) -> None:
        self.label = label
        self.listeners: list[Any] = []
        self._owner = owner
        self._name = name
        self._wrap = wrap
        self._old: Any = None
        self._new: Any = None

    def listen(self, listener: Any) -> None:
        """Add a listener; the first one attaches the wrapper, or finds it still there from before."""
        if not self.listeners:
            owner = self._owner()
            if self._new is None or owner.__dict__.get(self._name) is not self._new:
                self._old = owner.__dict__[self._name]
                self._new = self._wrap(self._old, self)
                setattr(owner, self._name, self._new)
        self.listeners.append(listener)

    def leave(self, listener: Any) -> bool:
        """Remove a listener; the last one restores the attribute.

        Returns:
            False when another tool wrapped ours since, so that it could only be made passive.
        """
        self.listeners.remove(listener)
        if self.listeners:
            return True
        owner = self._owner()
        if owner.__dict__.get(self._name) is not self._new:
            self._new = None
            return False
        setattr(owner, self._name, self._old)
        self._new = None
        return True


def unseen_by_warnings(wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper that a warning about its caller (`stacklevel=2`) leaves out, so that it names the user's line.

    Python's `warnings` passes over the frames of its import system, which it knows by the name of their file.
    """
    function: Any = wrapper
    function.__code__ = function.__code__.replace(co_filename="<gradkit, in place of importlib._bootstrap>")
    return wrapper

"""What is known of an object, kept under the object itself: weakly, by identity, and gone with it.

`id()` is given again as soon as an object is freed, so a container of bare ids takes a new model for one that lay in
its place. These three do not: an entry is dropped when its object dies, and a lookup asks for the very object. Nothing
is hashed or compared by value, as tensors must not be. Every other file leaves `id()` to this one; see
`tests/observe/test_known.py`. It lies in the lowest room because all the others need it.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSet
from typing import Any, Generic, TypeVar, overload

Key = TypeVar("Key")
Value = TypeVar("Value")
Other = TypeVar("Other")


class _Weak(weakref.ref[Any]):
    """A weak reference that knows under which number it is kept."""

    __slots__ = ("number",)
    number: int


class _Strong:
    """In its place for what cannot be referred to weakly, such as a list that serves as a sampler."""

    __slots__ = ("_key",)

    def __init__(self, key: object) -> None:
        self._key = key

    def __call__(self) -> Any:
        return self._key


class Known(MutableMapping[Key, Value], Generic[Key, Value]):
    """A map from objects to what is known of them; a value must not keep its own key alive.

    Args:
        items: Pairs to begin with.

    Example:
        >>> import torch
        >>> one, other = torch.ones(2), torch.ones(2)
        >>> steps = Known([(one, 3)])
        >>> steps[one], other in steps
        (3, False)
        >>> del one
        >>> len(steps)
        0
    """

    __slots__ = ("__weakref__", "_died", "_entries")

    def __init__(self, items: Iterable[tuple[Key, Value]] = ()) -> None:
        self._entries: dict[int, tuple[Callable[[], Any], Value]] = {}
        self._died = _forgetter(weakref.ref(self))
        for key, value in items:
            self[key] = value

    def __getitem__(self, key: Key) -> Value:
        entry = self._entries.get(id(key))
        if entry is None or entry[0]() is not key:
            raise KeyError(key)
        return entry[1]

    @overload
    def get(self, key: Key) -> Value | None: ...
    @overload
    def get(self, key: Key, default: Value | Other) -> Value | Other: ...
    def get(self, key: Key, default: Any = None) -> Any:
        """The value of an object, or the default."""
        entry = self._entries.get(id(key))
        return default if entry is None or entry[0]() is not key else entry[1]

    def __contains__(self, key: object) -> bool:
        entry = self._entries.get(id(key))
        return entry is not None and entry[0]() is key

    def __setitem__(self, key: Key, value: Value) -> None:
        number = id(key)
        entry = self._entries.get(number)
        reference = entry[0] if entry is not None else None
        if reference is None or reference() is not key:
            reference = _refer(key, number, self._died)
        self._entries[number] = (reference, value)

    def __delitem__(self, key: Key) -> None:
        if key not in self:
            raise KeyError(key)
        del self._entries[id(key)]

    def __iter__(self) -> Iterator[Key]:
        for reference, _ in list(self._entries.values()):  # an object may die, and its entry go, on the way
            key = reference()
            if key is not None:
                yield key

    def items(self) -> list[tuple[Key, Value]]:  # type: ignore[override]  # one call instead of one for each entry
        """The objects that are alive, each with its value."""
        pairs = [(reference(), value) for reference, value in list(self._entries.values())]
        return [pair for pair in pairs if pair[0] is not None]

    def values(self) -> list[Value]:  # type: ignore[override]  # the same
        """The values of all objects."""
        return [value for _, value in list(self._entries.values())]

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


class KnownSet(MutableSet[Key], Generic[Key]):
    """A set of objects.

    Args:
        keys: Objects to begin with.
    """

    __slots__ = ("__weakref__", "_died", "_entries")

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._entries: dict[int, Callable[[], Any]] = {}
        self._died = _forgetter(weakref.ref(self))
        self.update(keys)

    def __contains__(self, key: object) -> bool:
        reference = self._entries.get(id(key))
        return reference is not None and reference() is key

    def add(self, value: Key) -> None:
        """Add one object."""
        if value not in self:
            number = id(value)
            self._entries[number] = _refer(value, number, self._died)

    def update(self, values: Iterable[Key]) -> None:
        """Add several."""
        for value in values:
            self.add(value)

    def discard(self, value: Key) -> None:
        """Take one out, if it is there."""
        if value in self:
            del self._entries[id(value)]

    def clear(self) -> None:
        """Take all out."""
        self._entries.clear()

    def holds_any(self, values: Iterable[object]) -> bool:
        """Whether one of these objects is in it."""
        return any(map(self.__contains__, values))

    def holds_all(self, values: Iterable[object]) -> bool:
        """Whether every one of these objects is in it."""
        return all(map(self.__contains__, values))

    def __iter__(self) -> Iterator[Key]:
        for reference in list(self._entries.values()):
            key = reference()
            if key is not None:
                yield key

    def __len__(self) -> int:
        return len(self._entries)


class Numbers:
    """Gives each object a number of its own that no other ever gets, to be part of a key or to be counted."""

    def __init__(self) -> None:
        self._given: Known[object, int] = Known()
        self._next = itertools.count(1)

    def of(self, item: object) -> int:
        """The number of an object, the same for as long as it lives."""
        number = self._given.get(item)
        if number is None:
            number = self._given[item] = next(self._next)
        return int(number)


def _refer(key: object, number: int, died: Callable[[Any], None]) -> Callable[[], Any]:
    try:
        reference = _Weak(key, died)
    except TypeError:
        return _Strong(key)
    reference.number = number
    return reference


def _forgetter(book: weakref.ref[Any]) -> Callable[[Any], None]:
    """What drops the entry of an object that died; the number may have a new owner by then."""

    def died(reference: _Weak) -> None:
        alive = book()
        if alive is not None:
            entry = alive._entries.get(reference.number)
            if entry is reference or (type(entry) is tuple and entry[0] is reference):
                del alive._entries[reference.number]

    return died

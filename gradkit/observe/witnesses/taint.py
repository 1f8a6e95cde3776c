"""Follows the values computed from chosen parameters through one instrumented window, alive or cut off from autograd.

Each parameter is one bit. A tensor that autograd still connects carries it alive; a result without a graph carries it
dead, under the event that cut it. What the loss finally depends on is asked of the autograd graph; these maps only
explain why a parameter is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from gradkit.observe.program.sites import Site, caller, find_caller, find_site, is_user_code
from gradkit.observe.source import numbers
from gradkit.observe.taps.patches import Patch, telling
from gradkit.observe.taps.signals import tell
from gradkit.observe.taps.witness import Witness
from gradkit.observe.tensors.arguments import is_in_place, name_of, tensors_in
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.observe.tensors.memory import memory_of

if TYPE_CHECKING:
    from gradkit.observe.watching import Watching

_DECORATED = "decorate_context"
"""The function by which torch wraps one that is decorated with `no_grad` and its like."""
_EXITS = frozenset({"item", "tolist", "numpy", "__array__", "__float__", "__int__"})
_SILENT = frozenset({"_set_grad_enabled", "size", "dim", "stride", "__len__", "backward", "is_floating_point"})


@dataclass(frozen=True, slots=True)
class Cut:
    """An operation whose result lost its gradient.

    Attributes:
        operation: As its caller wrote it.
        cause: See `gradkit.records.CutPath.cause`.
        site: The line of the operation.
        disabled: The line that switched gradients off, where that was the cause.
        decorated: The beginning of the function that was called there, where a decorator of it did so.
        applied: The line that applied the custom function (`torch.autograd.Function`) whose forward the operation is
            in. Gradients are off there and the function's backward stands for all of it: no cut by itself.
        caller: The line of the program that called the function of the operation, or that of `disabled`.
    """

    operation: str
    cause: str
    site: Site
    disabled: Site | None = None
    decorated: Site | None = None
    applied: Site | None = None
    caller: Site | None = None


_Dead = dict[int, int]


@dataclass(slots=True)
class _Value:
    """What is known of a tensor: the bits that are alive in it, and the dead ones by the number of their cut."""

    live: int
    dead: _Dead
    had_graph: bool


class Taint(Witness):
    """The maps of one window.

    Args:
        monitor: Told of mistakes.
        parameters: The parameters to follow.

    Attributes:
        bits: The bit of each parameter.
        used: Those some call was given.
        tracked: Those that values with a graph were computed from.
    """

    def __init__(self, monitor: Watching, parameters: Sequence[Tensor]) -> None:
        super().__init__(monitor)
        self.bits: Known[Tensor, int] = Known((item, 1 << index) for index, item in enumerate(parameters))
        self.used = 0
        self.tracked = 0
        self.cuts: list[Cut] = []
        self._applied: dict[Site, int] = {}
        self._values: Known[Tensor, _Value] = Known()
        self._storages: dict[int, tuple[StorageWeakRef, int, _Dead]] = {}
        self._exits: list[_Exit] = []
        self._disabled: Site | None = None
        self._decorated: Site | None = None
        self._caller: Site | None = None

    # --- the ways into torch that a mode does not see ---------------------------------------------------------------

    def patch(self) -> None:
        """See `torch.from_numpy` and the making of a `torch.nn.Parameter` for the length of the window."""
        for patch in _WAYS_IN:
            patch.listen(self)

    def unpatch(self) -> None:
        """Give them back."""
        for patch in _WAYS_IN:
            patch.leave(self)

    def array_entered(self, tensor: Tensor, array: Any) -> None:
        """A tensor was made over an array."""
        self._enter_again(tensor, "from_numpy", array)

    def parameter_made(self, parameter: Tensor) -> None:
        """A tensor was wrapped as a new leaf, which has the memory of what it was and none of its history."""
        self._of(parameter)

    # --- calls --------------------------------------------------------------------------------------------------------

    def calling(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What the arguments carry, before an in-place operation changes them."""
        if getattr(function, "__name__", "") in _SILENT:
            return None
        dead: _Dead = {}
        live = count = 0
        for tensor in tensors_in((args, kwargs)):
            count += 1
            alive, cut = self._of(tensor)
            live |= alive
            for number, mask in cut.items():
                dead[number] = dead.get(number, 0) | mask
        if count and self._exits:
            constants = [item for item in (*args, *kwargs.values()) if type(item) is float]
            if constants:
                self._use(constants, dead, name_of(function))
        return live, dead, count

    def called(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, before: Any) -> None:
        """Hand what the arguments carried on to the results."""
        name = name_of(function)
        if name == "_set_grad_enabled":
            off = bool(args) and not args[0]
            self._disabled, self._decorated = (find_site(), _decorated_function()) if off else (None, None)
            self._caller = find_caller() if off else None
            return
        if before is None:
            return
        live, dead, count = before
        if not count:
            for tensor in tensors_in(result, 2):
                self._enter_again(tensor, name, args[0] if args else kwargs.get("data"))
            return
        if not live and not dead:
            return
        outputs = list(tensors_in(result, 3))
        if not outputs and name in _EXITS:
            self._exits.append(_Exit(live, dead, result, find_site()))
        outputs += _targets(name, args, kwargs)
        cut: int | None = None
        for tensor in outputs:
            if tensor.grad_fn is not None:
                self.tracked |= live
                self._put(tensor, live, dead)
            elif tensor not in self.bits:
                if live and cut is None:
                    cut = self._cut(name)
                self._put(tensor, 0, dead if cut is None else {**dead, cut: dead.get(cut, 0) | live})

    def verdict(self, tensors: Sequence[Tensor], reached: KnownSet[Tensor]) -> Known[Tensor, Cut]:
        """The first cut behind each parameter that reaches `tensors` dead and not at all alive.

        Args:
            tensors: The roots of a backward.
            reached: The leaves that the graph of the roots contains.
        """
        dead: _Dead = {}
        live = 0
        for tensor in tensors:
            alive, cut = self._of(tensor)
            live |= alive
            for number, mask in cut.items():
                dead[number] = dead.get(number, 0) | mask
        found: Known[Tensor, Cut] = Known()
        for parameter, bit in self.bits.items():
            if parameter in reached or live & bit or not self.used & bit:
                continue
            numbers = [number for number, mask in dead.items() if mask & bit]
            if numbers:
                found[parameter] = self.cuts[min(numbers)]
        return found

    def through_functions(self, tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, list[Site]]]:
        """The parameters that reach `tensors` alive and went through custom functions, and where from.

        Args:
            tensors: The roots of a backward.
        """
        live = 0
        for tensor in tensors:
            live |= self._of(tensor)[0]
        for parameter, bit in self.bits.items():
            sites = [site for site, mask in self._applied.items() if mask & bit]
            if live & bit and sites:
                yield parameter, sites

    # --- what tensors carry -------------------------------------------------------------------------------------------

    def _of(self, tensor: Tensor) -> tuple[int, _Dead]:
        bit = self.bits.get(tensor)
        if bit is not None:
            self.used |= bit
            return bit, {}
        value = self._values.get(tensor)
        if value is not None:
            if tensor.grad_fn is not None and not value.had_graph:
                self._revive(value)
            return value.live, value.dead
        return self._of_storage(tensor)

    def _revive(self, value: _Value) -> None:
        """A value made inside a custom function, whose forward runs without gradients and whose result has them."""
        for number, mask in list(value.dead.items()):
            applied = self.cuts[number].applied
            if applied is not None:
                del value.dead[number]
                value.live |= mask
                self._applied[applied] = self._applied.get(applied, 0) | mask
        value.had_graph = True

    def _of_storage(self, tensor: Tensor) -> tuple[int, _Dead]:
        """What a tensor carries that was made out of sight, by the memory it shares with one that is known."""
        pointer = memory_of(tensor)
        known = self._storages.get(pointer) if pointer is not None else None
        if known is None or known[0].expired():
            return 0, {}
        _, live, dead = known
        if tensor.grad_fn is None and live:
            number = self._cut(type(tensor).__name__, "leaf")
            dead = {**dead, number: live}
            live = 0
            self._put(tensor, live, dead)
        return live, dead

    def _put(self, tensor: Tensor, live: int, dead: _Dead) -> None:
        self._values[tensor] = _Value(live, dict(dead), tensor.grad_fn is not None)
        pointer = memory_of(tensor)
        if pointer is not None:
            self._storages[pointer] = (StorageWeakRef(tensor.untyped_storage()), live, dict(dead))

    def _cut(self, operation: str, cause: str = "operation") -> int:
        if cause == "operation":
            if torch.is_inference_mode_enabled():
                cause = "inference_mode"
            elif not torch.is_grad_enabled() and operation not in ("detach", ".data"):
                cause = "no_grad"
        site = find_site()
        off = (self._disabled, self._decorated) if cause == "no_grad" else (None, None)
        outer = self._caller if off[0] is not None else find_caller()
        applied = None if torch.is_grad_enabled() else _applied()
        self.cuts.append(Cut(operation, cause, site, *off, applied=applied, caller=outer))
        return len(self.cuts) - 1

    def _use(self, constants: Sequence[float], dead: _Dead, operation: str) -> None:
        """Numbers that an operation takes beside tensors carry what left as these numbers before."""
        site = find_site()
        known = [item for item in self._exits if item.is_among(constants) or item.flows_to(site)]
        bits = 0
        for item in known:
            bits |= item.live
            for number, mask in item.dead.items():
                dead[number] = dead.get(number, 0) | mask
        if bits:
            self.cuts.append(Cut(operation, "constant", site))
            dead[len(self.cuts) - 1] = bits

    def _enter_again(self, tensor: Tensor, operation: str, data: Any) -> None:
        """A tensor made of numbers carries what left in just these numbers before."""
        dead: _Dead = {}
        bits = 0
        site = find_site()
        for known in [item for item in self._exits if item.returns_in(data) or item.flows_to(site, operation)]:
            bits |= known.live
            for number, mask in known.dead.items():
                dead[number] = dead.get(number, 0) | mask
        if bits:
            dead[self._cut(operation, "number")] = bits
        if dead:
            self._put(tensor, 0, dead)


def _array_entered(listeners: Sequence[Any], tensor: Tensor, array: Any) -> None:
    tell(listeners, "array_entered", tensor, array)


def _parameter_made(listeners: Sequence[Any], parameter: Tensor, *args: Any, **kwargs: Any) -> None:
    tell(listeners, "parameter_made", parameter)


_WAYS_IN = (
    Patch("torch.from_numpy", lambda: torch, "from_numpy", telling(after=_array_entered)),
    Patch("torch.nn.Parameter.__new__", lambda: nn.Parameter, "__new__", telling(after=_parameter_made)),
)


class _Exit:
    """Values that left as numbers or as an array, and what they carried."""

    def __init__(self, live: int, dead: _Dead, result: Any, site: Site) -> None:
        self.live = live
        self.dead = dead
        self.array = _array_of(result)
        self.number = result if type(result) is float else None
        self.numbers = frozenset(_numbers(result)) if self.array is None else frozenset()
        self._site = site

    def is_among(self, constants: Sequence[float]) -> bool:
        """Whether the number that left is one of these very objects; equal ones prove nothing."""
        return self.number is not None and any(item is self.number for item in constants)

    def flows_to(self, site: Site, operation: str | None = None) -> bool:
        """Whether the function's text carries what left on to the line of `site`, as Python and NumPy do unseen."""
        if site.code is not self._site.code:
            return False
        here, there = self._site.location(), site.location()
        return here is not None and there is not None and numbers.reaches(here, there.line, operation)

    def returns_in(self, data: Any) -> bool:
        """Whether `data` holds these values: the same memory, an array of the same shape, or the same numbers."""
        array = _array_of(data)
        if array is not None:
            if self.array is None:
                return False
            address, shape, kind = array
            # NumPy's own operations are out of sight: of several real numbers the shape is the link.
            return address == self.array[0] or (
                shape == self.array[1] and kind == self.array[2] == "f" and math.prod(shape) > 1
            )
        numbers = list(_numbers(data))
        # Small whole numbers (classes, counts) are equal by chance.
        return any(number in self.numbers and not number.is_integer() for number in numbers)


def _array_of(value: Any) -> tuple[int, tuple[int, ...], str] | None:
    """Address, shape and kind of a NumPy array; None for anything else."""
    interface = getattr(value, "__array_interface__", None)
    if not isinstance(interface, dict) or isinstance(value, Tensor):
        return None
    return int(interface["data"][0]), tuple(interface["shape"]), str(interface["typestr"])[1]


def _numbers(value: Any, limit: int = 10_000) -> Iterator[float]:
    """The numbers of nested lists, at most `limit`."""
    pending = [value]
    while pending and limit:
        item = pending.pop()
        if isinstance(item, (list, tuple)):
            pending.extend(item)
        elif isinstance(item, float):
            limit -= 1
            yield item


def _decorated_function() -> Site | None:
    """The beginning of the user's function whose decorator switches gradients off; None when it is no decorator."""
    frame = caller()
    for _ in range(8):
        function = frame.f_locals.get("func") if frame.f_code.co_name == _DECORATED else None
        code = getattr(function, "__code__", None)
        if code is not None and is_user_code(code.co_filename):
            return Site(code, -1)  # no instruction: the line where the function begins
        if frame.f_back is None or is_user_code(frame.f_code.co_filename):
            break
        frame = frame.f_back
    return None


_APPLY = ("apply", str(Path(str(torch.__file__)).parent / "autograd" / "function.py"))


def _applied() -> Site | None:
    """The user's line that applied the custom function whose forward is running; None outside of one."""
    frame: FrameType | None = caller()
    while frame is not None:
        if (frame.f_code.co_name, frame.f_code.co_filename) == _APPLY:
            return find_site(frame)
        frame = frame.f_back
    return None


def _targets(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Arguments that an operation writes to."""
    if args and isinstance(args[0], Tensor) and (name.endswith((" =", "__setitem__")) or is_in_place(name)):
        yield args[0]
    yield from tensors_in(kwargs.get("out"), 2)

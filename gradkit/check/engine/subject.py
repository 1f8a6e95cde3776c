"""The function under check as one map from a flat float64 vector to a flat float64 vector, the same in every dtype."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_unflatten

from gradkit.check.engine.cotangents import contraction
from gradkit.check.engine.errors import ChangedInputError, CheckInputError, MethodError
from gradkit.check.engine.intact import replica, same_bits
from gradkit.check.engine.leaves import copied, first_line, kind, path_name, placed
from gradkit.check.engine.precision import format_of, short_name
from gradkit.check.engine.random_state import RandomState, RandomTape
from gradkit.check.engine.replay import LowestPrecision
from gradkit.check.engine.reverse import gradients_of, leads_to
from gradkit.check.engine.slots import Slot, parts_by_hand

Function = Callable[..., Any]


class Subject:
    """A function at one point, evaluated at any dtype from the same random state.

    Args:
        fn: Called as `fn(*inputs)`, `fn(**inputs)` or `fn(inputs)` for a tuple or list, a dictionary, or a tensor.
        inputs: Tensors and anything else, nested in tuples, lists and dictionaries; never changed.
        dtype: What every floating tensor is cast to; None keeps each as it is.
        device: Where to; None keeps each where it is.
        cotangent: What the outputs are contracted with: None for one scalar output, `"random"`, or tensors shaped
            like the differentiable outputs.
        seed: Of the random cotangent.
        owned: Whether every parameter in reach belongs to the check, so that a backward pass may fill their `.grad`.

    Attributes:
        overwritten: Names of the inputs that the forward pass changed behind autograd's back.
        backward_drew: The generators that a backward pass drew random numbers from.

    Raises:
        CheckInputError: Nothing to differentiate, a dtype that cannot be checked or that the function does not run in,
            a non-scalar output without a cotangent, or a function that changes its inputs.
    """

    def __init__(
        self,
        fn: Function,
        inputs: Any,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        cotangent: Any = None,
        seed: int = 0,
        owned: bool = False,
    ) -> None:
        if device is not None and torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise CheckInputError(f"device={str(device)!r}: torch sees no CUDA device here.")
        self.fn = fn
        self.owned = owned
        self.notes: list[str] = []
        self.overwritten: list[str] = []
        self.backward_drew: frozenset[str] = frozenset()
        self._dirty: frozenset[int] = frozenset()
        paths, self._spec = tree_flatten_with_path(inputs)
        self._leaves = [placed(leaf, dtype, device) for _, leaf in paths]
        self._call_with = (
            "dict" if isinstance(inputs, Mapping) else "tuple" if isinstance(inputs, (tuple, list)) else "one"
        )
        self.slots = self._choose([path_name(path) for path, _ in paths], [leaf for _, leaf in paths])
        self._made_from = (fn, inputs, device, cotangent, seed) if dtype is not None else None
        self.given_dtypes = frozenset(leaf.dtype for _, leaf in paths if isinstance(leaf, Tensor))
        self.dtype = min((slot.dtype for slot in self.slots), key=lambda each: format_of(each).bits)
        self.size = sum(slot.numel for slot in self.slots)
        first = self._leaves[self.slots[0].position]
        self.device: torch.device = first.device
        self.point = self._flat([self._leaves[slot.position] for slot in self.slots])
        self._random = RandomState.capture()
        self._tape: RandomTape | None = RandomTape()
        self._draws: frozenset[str] | None = None
        self._arithmetic: TorchDispatchMode | None = None
        self.evaluations = 0
        self._positions: list[int] = []
        self._first_call()
        self.cotangents = contraction(self.outputs_like, cotangent, seed)
        self.weights = self._flat(self.cotangents)

    def as_given(self) -> Subject | None:
        """The same subject in the dtype its inputs came in; None where that is the dtype of the check."""
        if self._made_from is None or self.dtype in self.given_dtypes:
            return None
        fn, inputs, device, cotangent, seed = self._made_from
        return Subject(fn, inputs, device=device, cotangent=cotangent, seed=seed)

    @property
    def draws(self) -> bool:
        """Whether the function draws random numbers."""
        return bool(self._draws) or self._tape is not None

    def _choose(self, names: Sequence[str], originals: Sequence[Any]) -> list[Slot]:
        floating = [
            place
            for place, leaf in enumerate(originals)
            if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())
        ]
        asked = [place for place in floating if originals[place].requires_grad] or floating
        if not asked:
            raise CheckInputError("inputs hold no floating-point tensor; there is nothing to differentiate.")
        slots, offset = [], 0
        for place in asked:
            leaf = self._leaves[place]
            format_of(leaf.dtype)
            slots.append(Slot(names[place], place, leaf.shape, leaf.dtype, offset))
            offset += leaf.numel()
        return slots

    def _first_call(self) -> None:
        leaves = self.leaves(None)
        probe = LowestPrecision()
        with self.computing_under(probe):
            outputs = self._tried(leaves)
        self.bits = min(probe.bits, format_of(self.dtype).bits)
        tape = self._tape
        assert tape is not None
        tape.stop_recording()
        self._draws = self._random.moved()
        if not tape.drawn:
            self._tape = None
        flat = tree_flatten(outputs)[0]
        floating = [place for place, each in enumerate(flat) if isinstance(each, Tensor) and each.is_floating_point()]
        if any(isinstance(each, Tensor) and each.is_complex() and each.requires_grad for each in flat):
            raise CheckInputError(
                "the function returns a complex tensor; gradients of complex outputs cannot be checked."
            )
        if any(isinstance(each, Tensor) and each.layout is not torch.strided for each in flat):
            raise CheckInputError("the function returns a sparse tensor; only strided ones can be checked.")
        if not floating:
            kinds = ", ".join(sorted({kind(each) for each in flat})) or "nothing"
            raise CheckInputError(f"the function returns no floating-point tensor, only {kinds}.")
        tracked = [place for place in floating if flat[place].requires_grad]
        if tracked and len(tracked) < len(floating):
            left_out = ", ".join(str(place) for place in floating if place not in tracked)
            self.notes.append(f"output {left_out} carries no graph and was left out.")
        if not tracked:
            self.notes.append("no output carries a graph: reverse mode sees a gradient of zero.")
        self._positions = tracked or floating
        self.outputs_like = [flat[place].detach().clone() for place in self._positions]
        self._note_overwritten(leaves, [flat[place] for place in self._positions])

    def _tried(self, leaves: list[Any]) -> Any:
        """The outputs of the first call of all, and whether inputs have to be handed over as copies."""
        try:
            return self.call(leaves, track=True)
        except CheckInputError as refused:
            if not isinstance(refused.__cause__, RuntimeError):
                raise
            # An autograd function may change its input when it says so; autograd then wants it to be no leaf.
            declared = self._declared_dirty()
            if not declared:
                raise
            self._dirty = declared
            names = ", ".join(slot.name for slot in self.slots if slot.position in declared)
            self.notes.append(f"the function declares with mark_dirty that it changes {names}: it was given copies.")
            return self.call(self.leaves(None), track=True)
        except MethodError:
            raise
        except Exception as error:
            dtype = short_name(self.dtype)
            asked = "" if self.dtype in self.given_dtypes else f", which dtype={dtype} asked for"
            raise CheckInputError(
                f"the function does not run in {dtype}{asked}: {type(error).__name__}: {first_line(error)}."
            ) from error

    def _declared_dirty(self) -> frozenset[int]:
        """The places of the inputs that an autograd function declares to have changed; none if anything else did."""
        leaves = self.leaves(None)
        for slot in self.slots:
            leaves[slot.position] = leaves[slot.position].requires_grad_().clone()
        histories = {slot.position: leaves[slot.position].grad_fn for slot in self.slots}
        try:
            with self.frozen_randomness(), torch.enable_grad():
                self.apply(self.fn, leaves)
        except Exception:  # whatever it is, the first refusal tells it
            return frozenset()
        changed = {place for place, history in histories.items() if leaves[place].grad_fn is not history}
        by_function = {
            place for place in changed if isinstance(leaves[place].grad_fn, torch.autograd.function.BackwardCFunction)
        }
        return frozenset(by_function) if by_function == changed else frozenset()

    def _note_overwritten(self, leaves: list[Any], outputs: list[Tensor]) -> None:
        """Inputs whose bits are others after the first call, although no version counter moved."""
        slots = {slot.position: slot for slot in self.slots}
        for place, (leaf, before) in enumerate(zip(leaves, self._leaves, strict=True)):
            if not isinstance(leaf, Tensor) or place in self._dirty or same_bits(leaf, before):
                continue
            used = place in slots and any(each.requires_grad and leads_to(each, leaf) for each in outputs)
            if used:
                self.overwritten.append(slots[place].name)
            else:
                self.notes.append(f"the function changes {self._name_of(place)} in place; every call got a fresh copy.")

    def leaves(self, dtype: torch.dtype | None, point: Tensor | None = None) -> list[Any]:
        """Fresh copies of all input leaves, with the strides of the originals.

        Args:
            dtype: Of the floating ones; None for the dtype of the check.
            point: Flat values of the differentiated ones, `(size,)`, float64; None for the point of the check.
        """
        fresh = [copied(leaf, dtype) for leaf in self._leaves]
        if point is not None:
            for slot in self.slots:
                fresh[slot.position].copy_(point[slot.span].view(slot.shape))
        return fresh

    @contextmanager
    def frozen_randomness(self) -> Iterator[None]:
        """Every draw as in the first evaluation."""
        self._random.restore(self._draws)
        if self._tape is not None:
            self._tape.rewind()
        with self._arithmetic or nullcontext(), self._tape or nullcontext():
            yield

    def _recomputing(self) -> AbstractContextManager[object]:
        """What a checkpoint computes again in the backward pass draws what its forward drew."""
        return self._tape.recomputing() if self._tape is not None else nullcontext()

    @contextmanager
    def computing_under(self, mode: TorchDispatchMode) -> Iterator[None]:
        """The function, its backward and the hand-written gradient run under a dispatch mode; our own sums do not."""
        self._arithmetic = mode
        try:
            yield
        finally:
            self._arithmetic = None

    def call(self, leaves: list[Any], *, track: bool) -> Any:
        """What the function returns for these leaves.

        Raises:
            CheckInputError: It changed one of them.
        """
        differentiated = [leaves[slot.position] for slot in self.slots]
        if track:
            for leaf in differentiated:
                leaf.requires_grad_()
        versions = [leaf._version for leaf in differentiated]
        self.evaluations += 1
        try:
            with self.frozen_randomness(), torch.set_grad_enabled(track):
                outputs = self.apply(self.fn, leaves)
        except RuntimeError as error:
            if "leaf Variable that requires grad" in str(error) and "in-place" in str(error):
                raise CheckInputError(f"the function changes its input in place: {first_line(error)}.") from error
            raise
        for slot, leaf, version in zip(self.slots, differentiated, versions, strict=True):
            if leaf._version != version:
                raise ChangedInputError(
                    f"the function changes {slot.name} in place; return a new tensor, or declare the change with"
                    " ctx.mark_dirty in an autograd function."
                )
        return outputs

    def apply(self, fn: Function, leaves: list[Any], **extra: Any) -> Any:
        """Call any function with the leaves put back into the shape of the inputs."""
        if self._dirty:
            leaves = [leaf.clone() if place in self._dirty else leaf for place, leaf in enumerate(leaves)]
        inputs = tree_unflatten(leaves, self._spec)
        if self._call_with == "dict":
            return fn(**inputs, **extra)
        return fn(*inputs, **extra) if self._call_with == "tuple" else fn(inputs, **extra)

    def _name_of(self, place: int) -> str:
        names = {slot.position: slot.name for slot in self.slots}
        return names.get(place, f"input leaf {place}")

    def selected(self, outputs: Any) -> list[Tensor]:
        """The outputs that take part in the check.

        Raises:
            CheckInputError: The function returned something else than the first time.
        """
        flat = tree_flatten(outputs)[0]
        picked: list[Tensor] = []
        for place, like in zip(self._positions, self.outputs_like, strict=True):
            each = flat[place] if place < len(flat) else None
            if not isinstance(each, Tensor) or each.shape != like.shape:
                got = tuple(each.shape) if isinstance(each, Tensor) else each
                raise CheckInputError(
                    f"the function returned {got} where it first returned a tensor of shape {tuple(like.shape)};"
                    " a gradient check needs the same outputs every time."
                )
            picked.append(each)
        return picked

    def values(self, dtype: torch.dtype | None, point: Tensor | None = None) -> Tensor:
        """All outputs at a point as one flat vector, float64, on the device of the inputs."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._flat(self.selected(self.call(self.leaves(dtype, point), track=False)))

    def other_outputs(self) -> float | None:
        """How far apart the outputs of another call are, beyond rounding; None where they are the same."""
        first = self._flat(self.outputs_like)
        again = self.values(None)
        apart = torch.where((first == again) | (first.isnan() & again.isnan()), 0.0, (first - again).abs())
        largest = float(apart.nan_to_num(nan=torch.inf).max()) if apart.numel() else 0.0
        scale = float(first.nan_to_num(0.0, 0.0, 0.0).abs().max()) if first.numel() else 0.0
        return largest if largest > 16 * 2.0**-self.bits * scale * first.numel() ** 0.5 else None

    def reverse(self, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
        """The outputs and the gradient by reverse mode, each as one flat float64 vector; zero where no graph leads."""
        leaves = self.leaves(dtype)
        outputs = self.selected(self.call(leaves, track=True))
        pairs = [(each, c) for each, c in zip(outputs, self.cotangents, strict=True) if each.requires_grad]
        wanted = [leaves[slot.position] for slot in self.slots]
        if not pairs:
            return self._flat(outputs), torch.zeros_like(self.point)
        cotangents = [replica(c).to(each.dtype) for each, c in pairs]
        state = RandomState.capture() if dtype is None else None
        with self._arithmetic or nullcontext(), self._recomputing():
            found = gradients_of([each for each, _ in pairs], wanted, cotangents, owned=self.owned)
        self.backward_drew |= state.moved() if state is not None else frozenset()
        return self._flat(outputs), self.joined(found)

    def forward(self, dtype: torch.dtype | None, direction: Tensor) -> float:
        """The derivative along a direction `(size,)` by forward mode."""
        leaves = self.leaves(dtype)
        with forward_mode.dual_level():
            for slot in self.slots:
                leaf = leaves[slot.position]
                tangent = torch.empty_like(leaf).copy_(direction[slot.span].view(slot.shape))
                leaves[slot.position] = forward_mode.make_dual(leaf, tangent)
            try:
                outputs = self.selected(self.call(leaves, track=False))
            except CheckInputError:
                raise
            except Exception as error:
                raise MethodError(f"forward mode does not run here: {first_line(error)}") from error
            total = torch.zeros((), dtype=torch.float64, device=self.device)
            for each, cotangent in zip(outputs, self.cotangents, strict=True):
                tangent = forward_mode.unpack_dual(each).tangent
                if tangent is not None:
                    total = total + (tangent.double() * cotangent.double()).sum()
        return float(total)

    def by_hand(self, manual: Function, dtype: torch.dtype | None, *, with_cotangent: bool) -> Tensor:
        """The hand-written gradient as one flat float64 vector.

        Raises:
            CheckInputError: It has the wrong number, shape or kind of parts.
        """
        leaves = self.leaves(dtype)
        extra: dict[str, Any] = {}
        if with_cotangent:
            cast = [replica(c).to(dtype) if dtype is not None else replica(c) for c in self.cotangents]
            extra["cotangent"] = cast[0] if len(cast) == 1 else tuple(cast)
        try:
            with self.frozen_randomness(), torch.no_grad():
                returned = self.apply(manual, leaves, **extra)
        except Exception as error:
            raise CheckInputError(
                f"the hand-written gradient does not run in {short_name(dtype or self.dtype)}:"
                f" {type(error).__name__}: {first_line(error)}."
            ) from error
        return self.joined(parts_by_hand(returned, self.slots, len(self._leaves), self.device))

    def joined(self, parts: Sequence[Tensor | None]) -> Tensor:
        """One flat float64 vector of the parts; zeros for those that are missing."""
        filled = [
            torch.zeros(slot.shape, dtype=torch.float64, device=self.device) if part is None else part
            for slot, part in zip(self.slots, parts, strict=True)
        ]
        return self._flat(filled)

    def _flat(self, tensors: Sequence[Tensor]) -> Tensor:
        if not tensors:
            return torch.zeros(0, dtype=torch.float64)
        dense = [each.detach() if each.layout is torch.strided else each.detach().to_dense() for each in tensors]
        return torch.cat([each.to(dense[0].device).double().reshape(-1) for each in dense])

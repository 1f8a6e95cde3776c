"""Random state around a check: every evaluation starts from the same one, and the user's is put back exactly."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Their output depends on their floating input, so a recorded output cannot stand in for a new one. On the CPU
# dropout draws the same mask for every dtype from the same state.
DEPENDS_ON_INPUT = ("native_dropout", "rrelu", "_scaled_dot_product", "_fused", "multinomial", "alpha_dropout")


@dataclass(frozen=True)
class RandomState:
    """The state of every generator a training step draws from."""

    cpu: Tensor
    cuda: list[Tensor] = field(default_factory=list)
    python: Any = None
    numpy: Any = None

    @classmethod
    def capture(cls) -> RandomState:
        """The present state of torch, of every CUDA device in use, of `random`, and of NumPy when it is loaded."""
        numpy = sys.modules.get("numpy")
        return cls(
            cpu=torch.get_rng_state(),
            cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            python=random.getstate(),
            numpy=numpy.random.get_state() if numpy is not None else None,
        )

    def moved(self) -> frozenset[str]:
        """Which of the generators have drawn since."""
        now = RandomState.capture()
        moved = {"cpu"} if not torch.equal(now.cpu, self.cpu) else set()
        if len(now.cuda) != len(self.cuda) or any(
            not torch.equal(one, two) for one, two in zip(now.cuda, self.cuda, strict=False)
        ):
            moved.add("cuda")
        if now.python != self.python:
            moved.add("python")
        if now.numpy is not None and self.numpy is not None and str(now.numpy) != str(self.numpy):
            moved.add("numpy")
        return frozenset(moved)

    def restore(self, only: frozenset[str] | None = None) -> None:
        """Set the generators back to this state.

        Args:
            only: Names from `moved`; None for all of them. Setting Python's generator costs 30 us.
        """
        if only is not None:
            if "cpu" in only:
                torch.set_rng_state(self.cpu)
            if "cuda" in only and self.cuda:
                torch.cuda.set_rng_state_all(self.cuda)
            if "python" in only:
                random.setstate(self.python)
            if "numpy" in only and self.numpy is not None:
                sys.modules["numpy"].random.set_state(self.numpy)
            return
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)


@contextmanager
def random_state_kept() -> Iterator[RandomState]:
    """The present random state; it is restored when the block ends, also by an error."""
    state = RandomState.capture()
    try:
        yield state
    finally:
        state.restore()


class RandomTape(TorchDispatchMode):
    """Plays the random numbers of one evaluation to every other one, whatever their dtype.

    `torch.randn_like(x)` draws different numbers in float32 and float64 from one seed; a function that calls it would
    be two functions. The first evaluation records; later ones replay as long as shape and operator agree. A checkpoint
    that computes its part again puts the random state back first, so each draw is known by the state it began with.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drawn: list[tuple[str, Tensor]] = []
        self.recording = True
        self._next = 0
        self._begun_with: dict[bytes, int] = {}
        self._again = False

    def rewind(self) -> None:
        """Start over; from the second call on the tape replays."""
        self._next = 0
        self._begun_with.clear()

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """A backward pass: a draw that begins with a state of the forward gives that one's numbers; others are new."""
        self._again = True
        try:
            with self:
                yield
        finally:
            self._again = False

    def stop_recording(self) -> None:
        """Replay from now on."""
        self.recording = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__
        drawing = torch.Tag.nondeterministic_seeded in func.tags and not name.startswith(DEPENDS_ON_INPUT)
        state = _generator_state(args, kwargs) if drawing else b""
        out = func(*args, **kwargs)
        if not drawing or not isinstance(out, Tensor) or not out.is_floating_point():
            return out
        if self._again:
            place = self._begun_with.get(state)
            if place is not None and self.drawn[place][0] == name and self.drawn[place][1].shape == out.shape:
                out.copy_(self.drawn[place][1])
            return out
        if self.recording:
            self.drawn.append((name, out.detach().clone()))
            return out
        if self._next < len(self.drawn):
            recorded_name, recorded = self.drawn[self._next]
            self._begun_with.setdefault(state, self._next)
            self._next += 1
            if recorded_name == name and recorded.shape == out.shape:
                # In place: operators such as `bernoulli_` return the tensor they filled.
                out.copy_(recorded)
        return out


def _generator_state(args: Any, kwargs: Any) -> bytes:
    """The state of the generator that an operator is about to draw from."""
    own = kwargs.get("generator")
    if own is not None:
        return bytes(own.get_state().numpy().tobytes())
    cuda = any(isinstance(each, Tensor) and each.is_cuda for each in args) or "cuda" in str(kwargs.get("device"))
    state = torch.cuda.get_rng_state() if cuda else torch.get_rng_state()
    return bytes(state.numpy().tobytes())

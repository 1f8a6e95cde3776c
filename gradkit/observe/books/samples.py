"""Samples of gradients kept while a suspicion is open, to prove what a buffer still holds after it was changed.

Between a backward and its step a loop may scale, clip, mask or noise its gradients. Versions then say nothing: what
decides is whether the consumed gradient c is still the sum of the consumed-before part s and the fresh part f. Three
proofs are accepted, each tested against the alternative that only f is left:

1. At least half of the elements where s and f both count are equal to s + f to the bit (masks, clamps, repaired NaN).
2. All of c is clamp(s + f) or k sign(s + f), and not the same of f.
3. In the least-squares fit c = a s + b f (+ d w with the weights w) both factors are the same, to within the fit's own
   error (one factor for all, noise, weight decay by hand). A deliberate mixture, such as 0.9 s + f, has different ones.

Source of 3: ordinary least squares; with the Gram matrix G of the regressors and the variance v of what is left, the
variance of a - b is v k' inv(G) k for k = (1, -1, 0).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradkit.observe.tensors.measure import Reader, plain

SAMPLE = 4096
"""Elements kept of each gradient, spread evenly over it: at most 32 KiB of copies per parameter."""
SAMPLED_WINDOWS = 5
"""Windows of one optimizer in which samples are taken, at most."""

_FIT = 0.005
"""Largest standard error of a - b, relative to b, with which a fit may prove anything; 0.9 s + f is 20 of these off."""
_EXACT = 1e-5
"""Relative difference of a and b that rounding alone explains in single precision."""
_PARALLEL = 1e-8
"""Smallest eigenvalue of the regressors' correlation matrix: below it double precision cannot tell them apart."""
_FEW = 12
"""Below this many elements a fit has to be exact."""


@dataclass(slots=True)
class _Kept:
    stale: Tensor
    mixed: Tensor | None = None


@dataclass(slots=True)
class _Sums:
    """Sums over the sampled elements of one or several parameters; float64 on the host."""

    count: float
    dots: Tensor
    """Scalar products of (s, f, w, c) with each other: shape (4, 4)."""
    telling: float
    """Elements in which both s and f count."""
    equal: float
    """Telling elements that are s + f to the bit."""
    off_mixed: float
    """Elements that are neither a clamp of s + f nor a multiple of its sign."""
    off_fresh: float

    @classmethod
    def of(cls, values: list[float]) -> _Sums:
        """From the numbers `_numbers` queued, read."""
        count, telling, equal, off_mixed, off_fresh = values[:5]
        dots = torch.tensor(values[5:], dtype=torch.float64).reshape(4, 4)
        return cls(count, dots, telling, equal, off_mixed, off_fresh)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


_NUMBERS = 5 + 16


class Samples:
    """The samples of one optimizer's suspected buffers in the present window.

    Args:
        always: Sample every suspected window, for deep mode, instead of `SAMPLED_WINDOWS`.
    """

    def __init__(self, always: bool = False) -> None:
        self.always = always
        self.windows_left = SAMPLED_WINDOWS
        self.wanted = True
        self._kept: dict[int, _Kept] = {}

    @property
    def taken(self) -> bool:
        """Whether there are samples of the present window."""
        return bool(self._kept)

    def begin(self, buffers: Iterable[tuple[int, Tensor]]) -> None:
        """Keep the consumed-before parts, before a backward adds to them; sparse gradients are left out."""
        if not self._kept and not self.always:
            self.windows_left -= 1
        for index, buffer in buffers:
            if index not in self._kept and (values := _sample(buffer)) is not None:
                self._kept[index] = _Kept(values)

    def follow(self, index: int, buffer: Tensor) -> None:
        """Keep what a backward left in a suspected buffer."""
        if (kept := self._kept.get(index)) is not None:
            kept.mixed = _sample(buffer)

    def clear(self) -> None:
        """Forget the window."""
        self._kept.clear()

    def proven(self, parameters: Iterable[tuple[int, Tensor]], reader: Reader) -> dict[int, float]:
        """Of the gradients about to be consumed those that still hold s + f, with the factor it has in them.

        Args:
            parameters: Index and parameter of each candidate.
            reader: Reads the sums, all at once.
        """
        numbers: list[Tensor] = []
        indices = []
        with torch.no_grad():
            for index, parameter in parameters:
                kept = self._kept.get(index)
                if kept is None or kept.mixed is None or parameter.grad is None:
                    continue
                now, weights = _sample(parameter.grad), _sample(parameter)
                if now is None or weights is None or not now.shape == kept.mixed.shape == kept.stale.shape:
                    continue
                numbers += _numbers(kept.stale, kept.mixed, now, weights)
                indices.append(index)
        if not indices:
            return {}
        values = reader.read(numbers)
        sums = {index: _Sums.of(values[i * _NUMBERS : (i + 1) * _NUMBERS]) for i, index in enumerate(indices)}
        return _decide(sums)


def _decide(sums: dict[int, _Sums]) -> dict[int, float]:
    """Each on its own; a parameter too small to tell follows the others unless its own fit speaks against it."""
    single = {index: _verdict(item) for index, item in sums.items()}
    factors = [factor for factor in single.values() if factor]
    if not factors:
        if 0.0 in single.values():
            return {}
        factor = _verdict(functools.reduce(operator.add, sums.values()))
        return dict.fromkeys(sums, factor) if factor else {}
    return {index: factors[0] if factor is None else factor for index, factor in single.items() if factor != 0.0}


def _verdict(sums: _Sums) -> float | None:
    """The factor of a mixture that is proven; 0 when something else is; None when it cannot be told."""
    if not bool(sums.dots.isfinite().all()) or not sums.dots[3, 3]:
        return None
    if sums.telling and sums.equal >= 0.5 * sums.telling:
        return 1.0
    if sums.count >= _FEW and sums.off_mixed == 0.0 and sums.off_fresh > 0.0:
        return 1.0
    plain_fit, with_weights = _fit(sums, 2), _fit(sums, 3)
    return plain_fit or (plain_fit if with_weights is None else with_weights)


def _fit(sums: _Sums, regressors: int) -> float | None:
    """The verdict of a least-squares fit with the first regressors of (s, f, w)."""
    gram = sums.dots[:regressors, :regressors]
    scale = gram.diagonal().sqrt()
    if not bool((scale > 0).all()) or float(torch.linalg.eigvalsh(gram / scale.outer(scale))[0]) < _PARALLEL:
        return None  # the parts point the same way: any multiple of one is a multiple of their sum
    inverse = torch.linalg.inv(gram)
    factors = inverse @ sums.dots[:regressors, 3]
    square = float(sums.dots[3, 3])
    rest = max(0.0, square - float(factors @ sums.dots[:regressors, 3]))
    freedom = sums.count - regressors
    spread = float(inverse[0, 0] + inverse[1, 1] - 2.0 * inverse[0, 1])
    error = math.sqrt(rest / freedom * max(0.0, spread)) if freedom > 0 else 0.0
    a, b = float(factors[0]), float(factors[1])
    exact = abs(a - b) <= _EXACT * abs(b) and rest <= _EXACT**2 * square and freedom >= 0
    fitted = sums.count >= _FEW and error <= _FIT * abs(b) and abs(a - b) <= 4.0 * error
    if exact or fitted:
        return b or None
    return 0.0 if abs(a - b) > 6.0 * error + 10.0 * _EXACT * abs(b) else None


def _numbers(stale: Tensor, mixed: Tensor, now: Tensor, weights: Tensor) -> list[Tensor]:
    """The numbers of `_Sums` as 0-d tensors of one dtype, queued without waiting for the device."""
    rounding = torch.finfo(now.dtype).eps
    device = torch.device("cpu") if now.device.type == "mps" else now.device  # which has no float64
    s, m, c, w = (part.to(device, torch.float64) for part in (stale, mixed, now, weights))
    f = m - s
    telling = (s.abs() > 8 * rounding * m.abs()) & (f.abs() > 8 * rounding * m.abs())
    low, high = c.min(), c.max()
    largest = c.abs().max()
    near = 4 * rounding * largest
    off_mixed = _off(c, m, low, high, largest, near)
    off_fresh = _off(c, f, low, high, largest, near)
    counted = [n.to(torch.float64) for n in (telling.sum(), (telling & (c == m)).sum(), off_mixed, off_fresh)]
    rows = torch.stack([s, f, w, c])
    return [c.new_full((), float(c.numel())), *counted, *(rows @ rows.T).reshape(-1)]


def _off(c: Tensor, of: Tensor, low: Tensor, high: Tensor, largest: Tensor, near: Tensor) -> Tensor:
    """How many elements of c keep it from being a clamp, or else a multiple of the sign, of another tensor."""
    clamped = ((c - of.clamp(low, high)).abs() > near).sum()
    signs = ((c - largest * of.sign()).abs() > near).sum()
    return torch.minimum(clamped, signs)


def _sample(buffer: Tensor) -> Tensor | None:
    """Up to `SAMPLE` elements of a dense real gradient, copied."""
    local = plain(buffer.detach())
    if buffer.is_sparse or local.layout is not torch.strided or not local.is_floating_point() or not local.numel():
        return None
    flat = local.reshape(-1)
    return flat[:: max(1, -(-flat.numel() // SAMPLE))].clone()

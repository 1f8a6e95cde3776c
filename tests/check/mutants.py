"""Twenty correct backward passes by hand and six mutants of each: what a gradient check has to tell apart.

A mutant is a name and a change of the one right backward; `equivalent` ones give the same gradient at every point and
say why. The benchmark and the tests run all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Backward = Callable[[Sequence[Tensor], Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Subject:
    """A forward pass, its right backward pass and wrong ones.

    Attributes:
        name: Names it.
        forward: From the inputs to one output.
        inputs: Shapes of the inputs; standard normal values, positive where `positive`.
        backward: From the inputs and the cotangent to the gradients.
        mutants: Wrong backwards by name.
        equivalent: Why a mutant is none, by name.
        positive: Inputs are made positive.
    """

    name: str
    forward: Callable[..., Tensor]
    inputs: tuple[tuple[int, ...], ...]
    backward: Backward
    mutants: dict[str, Backward]
    equivalent: dict[str, str] = field(default_factory=dict)
    positive: bool = False

    def function(self, backward: Backward) -> type[torch.autograd.Function]:
        """An autograd function with this forward and the given backward."""
        forward = self.forward

        class Custom(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Tensor) -> Tensor:
                ctx.save_for_backward(*inputs)
                return forward(*inputs)

            @staticmethod
            def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
                return backward(ctx.saved_tensors, grad)

        Custom.__name__ = self.name.replace(" ", "_")
        return Custom

    def point(self, seed: int = 0) -> tuple[Tensor, ...]:
        """The inputs, float64."""
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in self.inputs]
        return tuple(each.abs() + 0.5 for each in drawn) if self.positive else tuple(drawn)


def _unary(name: str, forward: Any, slope: Any, mutants: dict[str, Any], **more: Any) -> Subject:
    """An elementwise function of one input by its slope."""
    made = {key: (lambda s, g, change=change: (change(s[0], g),)) for key, change in mutants.items()}
    return Subject(name, forward, ((3, 4),), lambda s, g: (g * slope(s[0]),), made, **more)


def _one_wrong(values: Tensor, factor: float = -1.0) -> Tensor:
    changed = values.clone()
    changed.view(-1)[1] *= factor
    return changed


STALE: dict[str, Tensor] = {}


def _stale(key: str, value: Tensor) -> Tensor:
    """A buffer filled at the first call and never again, whatever the inputs."""
    return STALE.setdefault(f"{key} {value.dtype}", value + 0.5).clone()


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def _norm_forward(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def _norm_backward(x: Tensor, g: Tensor, eps: float = 1e-5, *, mean: bool = True, project: bool = True) -> Tensor:
    scale = (x.var(-1, unbiased=False, keepdim=True) + eps).rsqrt()
    hat = (x - x.mean(-1, keepdim=True)) * scale
    found = g
    if mean:
        found = found - g.mean(-1, keepdim=True)
    if project:
        found = found - hat * (g * hat).mean(-1, keepdim=True)
    return found * scale


def _softmax_backward(x: Tensor, g: Tensor) -> Tensor:
    p = torch.softmax(x, -1)
    return p * (g - (g * p).sum(-1, keepdim=True))


def _log_softmax_backward(x: Tensor, g: Tensor) -> Tensor:
    return g - torch.softmax(x, -1) * g.sum(-1, keepdim=True)


def _outer_shift(values: Tensor, by: int = 1) -> Tensor:
    return values.roll(by, -1)


SUBJECTS: tuple[Subject, ...] = (
    _unary(
        "square",
        lambda x: x**2,
        lambda x: 2 * x,
        {
            "sign": lambda x, g: -2 * g * x,
            "factor": lambda x, g: g * x,
            "one element": lambda x, g: _one_wrong(2 * g * x),
            "without the cotangent": lambda x, g: 2 * x,
            "off by one": lambda x, g: 2 * g * _outer_shift(x),
            "stale buffer": lambda x, g: 2 * g * _stale("square", x),
        },
    ),
    _unary(
        "sine",
        torch.sin,
        torch.cos,
        {
            "sign": lambda x, g: -g * x.cos(),
            "factor": lambda x, g: 1.001 * g * x.cos(),
            "sine for cosine": lambda x, g: g * x.sin(),
            "one element": lambda x, g: _one_wrong(g * x.cos(), 0.0),
            "absolute value": lambda x, g: g.abs() * x.cos(),
            "shifted sine": lambda x, g: g * torch.sin(x + torch.pi / 2),
        },
        equivalent={"shifted sine": "sin(x + pi/2) is cos(x)"},
    ),
    _unary(
        "sigmoid",
        _sigmoid,
        lambda x: _sigmoid(x) * (1 - _sigmoid(x)),
        {
            "sign": lambda x, g: -g * _sigmoid(x) * (1 - _sigmoid(x)),
            "dropped term": lambda x, g: g * _sigmoid(x),
            "of the output": lambda x, g: g * _sigmoid(_sigmoid(x)) * (1 - _sigmoid(_sigmoid(x))),
            "factor": lambda x, g: 2 * g * _sigmoid(x) * (1 - _sigmoid(x)),
            "epsilon": lambda x, g: g * _sigmoid(x) * (1 - _sigmoid(x) + 1e-4),
            "mirrored": lambda x, g: g * _sigmoid(-x) * (1 - _sigmoid(-x)),
        },
        equivalent={"mirrored": "the slope of the sigmoid is even"},
    ),
    _unary(
        "hyperbolic tangent",
        torch.tanh,
        lambda x: 1 - x.tanh() ** 2,
        {
            "sign": lambda x, g: -g * (1 - x.tanh() ** 2),
            "sign inside": lambda x, g: g * (1 + x.tanh() ** 2),
            "power": lambda x, g: g * (1 - x.tanh()),
            "of the input": lambda x, g: g * (1 - x**2),
            "factor": lambda x, g: 0.5 * g * (1 - x.tanh() ** 2),
            "one element": lambda x, g: _one_wrong(g * (1 - x.tanh() ** 2), 1.01),
        },
    ),
    _unary(
        "logarithm",
        torch.log,
        lambda x: 1 / x,
        {
            "sign": lambda x, g: -g / x,
            "inverse": lambda x, g: g * x,
            "epsilon": lambda x, g: g / (x + 1e-3),
            "small epsilon": lambda x, g: g / (x + 1e-8),
            "base": lambda x, g: g / (x * 2.302585093),
            "off by one": lambda x, g: g / _outer_shift(x),
        },
        positive=True,
    ),
    _unary(
        "square root",
        torch.sqrt,
        lambda x: 0.5 / x.sqrt(),
        {
            "factor": lambda x, g: g / x.sqrt(),
            "inverse": lambda x, g: 0.5 * g * x.sqrt(),
            "misplaced epsilon": lambda x, g: 0.5 * g / (x.sqrt() + 1e-4),
            "epsilon inside": lambda x, g: 0.5 * g / (x + 1e-4).sqrt(),
            "sign": lambda x, g: -0.5 * g / x.sqrt(),
            "stale buffer": lambda x, g: 0.5 * g / _stale("root", x.sqrt()),
        },
        positive=True,
    ),
    _unary(
        "softplus",
        lambda x: torch.logaddexp(x, torch.zeros_like(x)),
        _sigmoid,
        {
            "mirrored": lambda x, g: g * _sigmoid(-x),
            "one": lambda x, g: g,
            "factor": lambda x, g: 0.99 * g * _sigmoid(x),
            "second slope": lambda x, g: g * _sigmoid(x) * (1 - _sigmoid(x)),
            "one element": lambda x, g: _one_wrong(g * _sigmoid(x)),
            "by tanh": lambda x, g: g * 0.5 * (1 + torch.tanh(x / 2)),
        },
        equivalent={"by tanh": "sigmoid(x) is (1 + tanh(x / 2)) / 2"},
    ),
    _unary(
        "cube",
        lambda x: x**3,
        lambda x: 3 * x**2,
        {
            "power": lambda x, g: 3 * g * x,
            "factor": lambda x, g: 2 * g * x**2,
            "sign of the input": lambda x, g: 3 * g * x * x.abs(),
            "dropped cotangent of one": lambda x, g: 3 * _one_wrong(g, 0.0) * x**2,
            "small factor": lambda x, g: 3.00001 * g * x**2,
            "transposed": lambda x, g: 3 * g * (x.reshape(x.shape[::-1]).T) ** 2,
        },
    ),
    Subject(
        "matrix product",
        lambda a, b: a @ b,
        ((3, 4), (4, 2)),
        lambda s, g: (g @ s[1].T, s[0].T @ g),
        {
            "sign of one": lambda s, g: (g @ s[1].T, -(s[0].T @ g)),
            "missing transpose": lambda s, g: ((g @ s[1].T).T.reshape(3, 4), s[0].T @ g),
            "factor": lambda s, g: (2 * g @ s[1].T, s[0].T @ g),
            "detached part": lambda s, g: (g @ s[1].T, torch.zeros_like(s[1])),
            "mean over rows": lambda s, g: (g @ s[1].T, s[0].T @ g / len(g)),
            "one element": lambda s, g: (g @ s[1].T, _one_wrong(s[0].T @ g)),
        },
    ),
    Subject(
        "linear layer",
        lambda x, w, b: x @ w.T + b,
        ((5, 3), (2, 3), (2,)),
        lambda s, g: (g @ s[1], g.T @ s[0], g.sum(0)),
        {
            "mean for the bias": lambda s, g: (g @ s[1], g.T @ s[0], g.mean(0)),
            "first row for the bias": lambda s, g: (g @ s[1], g.T @ s[0], g[0]),
            "dropped last sample": lambda s, g: (g @ s[1], g[:-1].T @ s[0][:-1], g.sum(0)),
            "stale input": lambda s, g: (g @ s[1], g.T @ _stale("linear", s[0]), g.sum(0)),
            "sign": lambda s, g: (-(g @ s[1]), g.T @ s[0], g.sum(0)),
            "swapped columns": lambda s, g: (g @ s[1], (g.T @ s[0]).flip(0), g.sum(0)),
        },
    ),
    Subject(
        "softmax",
        lambda x: torch.softmax(x, -1),
        ((3, 4),),
        lambda s, g: (_softmax_backward(s[0], g),),
        {
            "diagonal only": lambda s, g: (torch.softmax(s[0], -1) * (1 - torch.softmax(s[0], -1)) * g,),
            "wrong axis": lambda s, g: (
                torch.softmax(s[0], -1) * (g - (g * torch.softmax(s[0], -1)).sum(0, keepdim=True)),
            ),
            "without the mean": lambda s, g: (torch.softmax(s[0], -1) * g,),
            "sign of the mean": lambda s, g: (
                torch.softmax(s[0], -1) * (g + (g * torch.softmax(s[0], -1)).sum(-1, keepdim=True)),
            ),
            "mean for sum": lambda s, g: (
                torch.softmax(s[0], -1) * (g - (g * torch.softmax(s[0], -1)).mean(-1, keepdim=True)),
            ),
            "shifted logits": lambda s, g: (_softmax_backward(s[0] - s[0].amax(-1, keepdim=True), g),),
        },
        equivalent={"shifted logits": "the softmax does not change when a constant is taken from a row"},
    ),
    Subject(
        "log softmax",
        lambda x: torch.log_softmax(x, -1),
        ((3, 4),),
        lambda s, g: (_log_softmax_backward(s[0], g),),
        {
            "of softmax": lambda s, g: (_softmax_backward(s[0], g),),
            "wrong axis": lambda s, g: (g - torch.softmax(s[0], -1) * g.sum(0, keepdim=True),),
            "wrong softmax axis": lambda s, g: (g - torch.softmax(s[0], 0) * g.sum(-1, keepdim=True),),
            "sign": lambda s, g: (g + torch.softmax(s[0], -1) * g.sum(-1, keepdim=True),),
            "dropped term": lambda s, g: (g.clone(),),
            "factor": lambda s, g: (0.999 * _log_softmax_backward(s[0], g),),
        },
    ),
    Subject(
        "layer normalization",
        _norm_forward,
        ((3, 5),),
        lambda s, g: (_norm_backward(s[0], g),),
        {
            "without the mean": lambda s, g: (_norm_backward(s[0], g, mean=False),),
            "without the projection": lambda s, g: (_norm_backward(s[0], g, project=False),),
            "epsilon": lambda s, g: (_norm_backward(s[0], g, eps=1e-3),),
            "unbiased variance": lambda s, g: (_norm_backward(s[0], g) * (4 / 5) ** 0.5,),
            "detached statistics": lambda s, g: (_norm_backward(s[0], g, mean=False, project=False),),
            "shifted input": lambda s, g: (_norm_backward(s[0] + 1, g),),
        },
        equivalent={"shifted input": "normalization removes the mean, so a shift of the input changes nothing"},
    ),
    Subject(
        "broadcast addition",
        lambda x, b: x + b,
        ((4, 3), (3,)),
        lambda s, g: (g.clone(), g.sum(0)),
        {
            "mean for sum": lambda s, g: (g.clone(), g.mean(0)),
            "last row": lambda s, g: (g.clone(), g[-1].clone()),
            "wrong axis": lambda s, g: (g.clone(), g.sum(1)[:3]),
            "sign": lambda s, g: (g.clone(), -g.sum(0)),
            "dropped row": lambda s, g: (g.clone(), g[1:].sum(0)),
            "detached part": lambda s, g: (torch.zeros_like(g), g.sum(0)),
        },
    ),
    Subject(
        "broadcast product",
        lambda x, w: x * w,
        ((4, 3), (4, 1)),
        lambda s, g: (g * s[1], (g * s[0]).sum(1, keepdim=True)),
        {
            "mean for sum": lambda s, g: (g * s[1], (g * s[0]).mean(1, keepdim=True)),
            "without the other": lambda s, g: (g * s[1], g.sum(1, keepdim=True)),
            "first column": lambda s, g: (g * s[1], (g * s[0])[:, :1]),
            "swapped": lambda s, g: (g * s[0], (g * s[0]).sum(1, keepdim=True)),
            "wrong axis": lambda s, g: (g * s[1], (g * s[0]).sum(0, keepdim=True).sum(1, keepdim=True).expand(4, 1)),
            "off by one": lambda s, g: (g * s[1], (g * s[0]).sum(1, keepdim=True).roll(1, 0)),
        },
    ),
    Subject(
        "mean",
        lambda x: x.mean(),
        ((3, 4),),
        lambda s, g: (g.expand(3, 4) / 12,),
        {
            "sum": lambda s, g: (g.expand(3, 4).clone(),),
            "rows only": lambda s, g: (g.expand(3, 4) / 3,),
            "off by one": lambda s, g: (g.expand(3, 4) / 11,),
            "sign": lambda s, g: (-g.expand(3, 4) / 12,),
            "one element": lambda s, g: (_one_wrong(g.expand(3, 4) / 12, 0.0),),
            "by rows then columns": lambda s, g: ((g / 3 / 4).expand(3, 4).clone(),),
        },
        equivalent={"by rows then columns": "dividing by 3 and then by 4 is dividing by 12"},
    ),
    Subject(
        "variance",
        lambda x: x.var(),
        ((3, 4),),
        lambda s, g: (g * 2 * (s[0] - s[0].mean()) / 11,),
        {
            "biased": lambda s, g: (g * 2 * (s[0] - s[0].mean()) / 12,),
            "without the mean": lambda s, g: (g * 2 * s[0] / 11,),
            "factor": lambda s, g: (g * (s[0] - s[0].mean()) / 11,),
            "mean of rows": lambda s, g: (g * 2 * (s[0] - s[0].mean(-1, keepdim=True)) / 11,),
            "sign": lambda s, g: (g * 2 * (s[0].mean() - s[0]) / 11,),
            "with the mean's own slope": lambda s, g: (
                g * 2 * ((s[0] - s[0].mean()) - (s[0] - s[0].mean()).mean()) / 11,
            ),
        },
        equivalent={"with the mean's own slope": "the deviations sum to zero, so their mean adds nothing"},
    ),
    Subject(
        "norm",
        lambda x: (x * x).sum().sqrt(),
        ((7,),),
        lambda s, g: (g * s[0] / (s[0] * s[0]).sum().sqrt(),),
        {
            "squared": lambda s, g: (g * s[0] / (s[0] * s[0]).sum(),),
            "factor": lambda s, g: (2 * g * s[0] / (s[0] * s[0]).sum().sqrt(),),
            "without the norm": lambda s, g: (g * s[0],),
            "misplaced epsilon": lambda s, g: (g * s[0] / ((s[0] * s[0]).sum().sqrt() + 1e-4),),
            "one norm": lambda s, g: (g * s[0].sign(),),
            "stale norm": lambda s, g: (g * s[0] / _stale("norm", (s[0] * s[0]).sum().sqrt()),),
        },
    ),
    Subject(
        "logistic loss",
        lambda z, y: (torch.logaddexp(z, torch.zeros_like(z)) - y * z).mean(),
        ((6,), (6,)),
        lambda s, g: (g * (_sigmoid(s[0]) - s[1]) / 6, -g * s[0] / 6),
        {
            "sign": lambda s, g: (g * (s[1] - _sigmoid(s[0])) / 6, -g * s[0] / 6),
            "sum": lambda s, g: (g * (_sigmoid(s[0]) - s[1]), -g * s[0] / 6),
            "without the sigmoid": lambda s, g: (g * (s[0] - s[1]) / 6, -g * s[0] / 6),
            "of the mean squared error": lambda s, g: (
                g * (_sigmoid(s[0]) - s[1]) * _sigmoid(s[0]) * (1 - _sigmoid(s[0])) / 6,
                -g * s[0] / 6,
            ),
            "detached targets": lambda s, g: (g * (_sigmoid(s[0]) - s[1]) / 6, torch.zeros_like(s[1])),
            "clamped": lambda s, g: (g * (_sigmoid(s[0]).clamp(0.4, 0.6) - s[1]) / 6, -g * s[0] / 6),
        },
    ),
    Subject(
        "cumulative sum",
        lambda x: x.cumsum(-1),
        ((3, 5),),
        lambda s, g: (g.flip(-1).cumsum(-1).flip(-1),),
        {
            "not reversed": lambda s, g: (g.cumsum(-1),),
            "exclusive": lambda s, g: (g.flip(-1).cumsum(-1).flip(-1) - g,),
            "wrong axis": lambda s, g: (g.flip(0).cumsum(0).flip(0),),
            "sign": lambda s, g: (-g.flip(-1).cumsum(-1).flip(-1),),
            "identity": lambda s, g: (g.clone(),),
            "by difference": lambda s, g: (g.sum(-1, keepdim=True) - g.cumsum(-1) + g,),
        },
        equivalent={"by difference": "the sum from here on is the whole sum less the sum before"},
    ),
)


def mutants() -> list[tuple[Subject, str, Backward]]:
    """Every mutant with its subject, in a fixed order."""
    return [(subject, name, backward) for subject in SUBJECTS for name, backward in subject.mutants.items()]

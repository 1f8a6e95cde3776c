"""Every configuration key of `python -m gradkit.check`: type, default, meaning and range; imports no framework."""

from __future__ import annotations

from dataclasses import dataclass, field

TARGETS = {
    "square": "y = x^2 at 3 (the notebook's first derivative, 6)",
    "sine_of_square": "sin(x^2), the chain rule",
    "vector_mean": "mean of x^2 over a vector",
    "worked_example": "one sample of logistic regression, w = 1, b = 0, x = 6.7, y = 0, by the textbook chain rule",
    "logistic_textbook": "a batch: loss from probabilities, dL/dp * dp/dz * dz/dw",
    "logistic_fused": "the same loss from logits, written by hand; sigma(z) - y",
    "logistic_with_logits": "torch's binary_cross_entropy_with_logits; sigma(z) - y",
    "softmax_cross_entropy": "torch's cross_entropy; softmax(z) - one-hot",
    "mlp": "two layers, backpropagation by hand",
}
"""The built-in targets and what they are."""

METHODS = ("manual", "reverse", "forward")

DTYPES = ("float64", "float32", "bfloat16", "float16")


@dataclass
class CheckConfig:
    """What to check, in what arithmetic, and what to write."""

    target: list[str] = field(
        default_factory=lambda: ["worked_example"],
        metadata={"help": "built-in names, or your own pkg.module.name with --trust pkg"},
    )
    dtype: list[str] = field(
        default_factory=lambda: ["float32"], metadata={"help": "arithmetic of the gradients", "choices": DTYPES}
    )
    scale: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={"help": "size of the logits, or of the point; swept for the chart", "above": 0},
    )
    device: str = field(default="cpu", metadata={"help": "cpu, cuda or cuda:N; a GPU is compared with the CPU too"})
    order: int = field(
        default=1, metadata={"help": "1 for the gradient, 2 for the gradient of the gradient", "low": 1, "high": 2}
    )
    methods: list[str] = field(
        default_factory=lambda: list(METHODS), metadata={"help": "ways to get the gradient", "choices": METHODS}
    )
    seed: int = field(default=0, metadata={"help": "of random directions and roundings", "low": 0, "high": 2**63 - 1})
    replays: int = field(
        default=16, metadata={"help": "computations with random rounding per bound", "low": 4, "high": 1024}
    )
    false_alarm: float = field(
        default=1e-6,
        metadata={"help": "probability that rounding alone fails a correct function", "above": 0, "below": 1},
    )
    fail_on: str = field(
        default="fail",
        metadata={"help": "exit status 1 from this verdict on", "choices": ("fail", "inconclusive", "never")},
    )
    details: bool = field(default=False, metadata={"help": "one line per input tensor instead of one per method"})
    json: str | None = field(default=None, metadata={"help": "write all results to this file"})
    chart: str | None = field(default=None, metadata={"help": "write the chart to this file: .svg, .png or .html"})


SWEPT = ("target", "dtype", "scale", "methods")
"""Keys that take several values: target=square,mlp or scale=range(1,40,3)."""

"""One small training loop with every seeded change the goldens have to catch, one argument each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gradkit.observe.taps.uncompiled import compiled_code_exists
from gradkit.trajectory import Recording, Trajectory

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p, rate, decay, momentum: torch.optim.SGD(p, lr=0.1 * rate, weight_decay=decay),
    "momentum": lambda p, rate, decay, momentum: torch.optim.SGD(
        p, lr=0.1 * rate, weight_decay=decay, momentum=momentum
    ),
    "adam": lambda p, rate, decay, momentum: torch.optim.Adam(p, lr=0.01 * rate, weight_decay=decay),
    "adamw": lambda p, rate, decay, momentum: torch.optim.AdamW(p, lr=0.01 * rate, weight_decay=decay),
    "rmsprop": lambda p, rate, decay, momentum: torch.optim.RMSprop(p, lr=0.01 * rate, weight_decay=decay),
    "adagrad": lambda p, rate, decay, momentum: torch.optim.Adagrad(p, lr=0.01 * rate, weight_decay=decay),
}

SAMPLES = 70
"""Not a multiple of the batch size: the last batch of an epoch has 6."""


def data(dtype: torch.dtype, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(SAMPLES, 6, generator=generator, dtype=torch.float64)
    targets = torch.rand(SAMPLES, generator=generator, dtype=torch.float64) > 0.5
    return (features * scale).to(dtype), targets.to(dtype)


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    """Forget what earlier tests of this process have compiled: beside compiled code no samples are recorded."""
    if compiled_code_exists():
        torch._dynamo.reset()


class Network(nn.Sequential):
    """Two layers; `cut` severs the path between them."""

    cut = False

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        hidden = self[1](self[0](features))
        return self[2](hidden.detach() if self.cut else hidden)


def network(seed: int, dtype: torch.dtype) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Network(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def train(
    optimizer_name: str = "sgd",
    *,
    rate: float = 1.0,
    loss_factor: float = 1.0,
    order: int = 0,
    shuffle: bool = False,
    drop_last: bool = False,
    decay: float = 0.01,
    zero: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    momentum: float = 0.9,
    l1: float = 0.01,
    l2: float = 0.02,
    gradient_factor: float = 1.0,
    clip: float | None = None,
    scale: float = 1.0,
    batch: int = 16,
    epochs: int = 3,
    skip: int = 0,
    frozen_rate_from: int | None = None,
    cut: bool = False,
    offset: float = 0.0,
    outside: bool = False,
    held: slice = slice(None),
    reduction: str = "mean",
    labels: float = 0.0,
) -> Trajectory:
    features, targets = data(dtype, scale)
    targets = (targets - labels).abs()
    model = network(seed, dtype)
    model.cut = cut
    optimizer = OPTIMIZERS[optimizer_name](list(model.parameters())[held], rate, decay, momentum)
    generator = torch.Generator().manual_seed(order)
    step = 0
    with Recording(model, optimizer) as recording:
        for _ in range(epochs):
            rows = torch.randperm(SAMPLES, generator=generator) if shuffle or order else torch.arange(SAMPLES)
            batches = list(rows.split(batch))[skip:]
            for picked in batches[:-1] if drop_last else batches:
                if zero:
                    optimizer.zero_grad()
                loss = nn.functional.binary_cross_entropy_with_logits(
                    model(features[picked]).squeeze(-1), targets[picked], reduction=reduction
                )
                loss = loss + l1 * model[2].weight.abs().sum() + l2 * sum(p.square().sum() for p in model.parameters())
                ((loss + offset) * loss_factor).backward()
                if gradient_factor != 1.0:
                    for parameter in model.parameters():
                        parameter.grad.mul_(gradient_factor)
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                if frozen_rate_from == step:
                    for group in optimizer.param_groups:
                        group["lr"] *= 0.5
                optimizer.step()
                if outside and step == 4:
                    with torch.no_grad():
                        model[0].weight.mul_(0.9)
                step += 1
    return recording.trajectory

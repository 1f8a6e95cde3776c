"""Generated data for two classes, of any size up to what fits in memory, from a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradkit.errors import ConfigError
from gradkit.train.data.files import require_memory
from gradkit.train.data.samples import Array, Samples, rows_per_block
from gradkit.train.schema.data import SyntheticData

RECIPE = "synthetic-1"
"""Part of the fingerprint; to be changed with anything that changes the numbers."""


@dataclass(frozen=True)
class GaussianBlocks:
    """Standard normal features with a given coordinate along one direction, generated anew on every walk.

    Attributes:
        shape: (samples, dimensions).
        direction: (dimensions,), float32, of length 1.
        along: (samples,), float32: the coordinate of each sample along `direction`.
        seed: Seed of the other coordinates.
    """

    shape: tuple[int, ...]
    direction: Tensor
    along: Tensor
    seed: int

    def blocks(self) -> Iterator[Array]:
        """Yield blocks, (rows, dimensions), float32."""
        generator = _generator(self.seed, "features")
        start = 0
        for along in self.along.split(rows_per_block(self.shape)):
            block = torch.randn((len(along), self.shape[1]), generator=generator, dtype=torch.float32, device="cpu")
            block += torch.outer(along - block @ self.direction, self.direction)
            yield block.numpy()
            start += len(along)


def synthetic(config: SyntheticData) -> Samples:
    """Features from a standard normal distribution, labelled by a noisy hyperplane through them.

    With w a random direction of length 1, the logit of a sample is w x, itself standard normal. Its score is the
    logit plus `noise` times a standard normal number. The share `positive_share` of the samples with the highest
    scores gets target 1. Then, to flip the share `label_flips` of all labels and keep the balance, half of them
    are taken from each class. Without flips, and with a balance of one half, the best possible accuracy is
    1 - arctan(noise) / pi: 0.75 for a noise of 1.

    Args:
        config: Sizes, noise, flips, balance and seed.

    Raises:
        ConfigError: A class is too small to flip half of `label_flips` in.
        DataError: The data cannot fit in memory.
    """
    count, dimensions = config.samples, config.dimensions
    where = f"data.samples={count} with data.dimensions={dimensions}"
    require_memory(4 * count * (dimensions + 4), where)
    along = _normal(count, config.seed, "along")
    direction = _normal(dimensions, config.seed, "direction")
    return Samples(
        where=where,
        features=GaussianBlocks((count, dimensions), direction / direction.norm(), along, config.seed),
        targets=_targets(config, along).numpy(),
        feature_names=tuple(f"x{index}" for index in range(dimensions)),
        label_mapping={"0": 0, "1": 1},
        fingerprint=_fingerprint(config),
    )


def _targets(config: SyntheticData, along: Tensor) -> Tensor:
    count = config.samples
    positives = min(max(round(config.positive_share * count), 1), count - 1)
    flips = round(config.label_flips * count / 2)
    if flips > min(positives, count - positives):
        raise ConfigError(
            f"data.label_flips={config.label_flips:g} with data.positive_share={config.positive_share:g}: half of the "
            f"flips fall on each class, and the smaller one has only {min(positives, count - positives)} of {count} "
            f"samples; label_flips can be at most {2 * min(positives, count - positives) / count:g}."
        )
    generator = _generator(config.seed, "labels")
    scores = torch.randn(count, generator=generator, dtype=torch.float64, device="cpu").mul_(config.noise).add_(along)
    order = scores.numpy().argpartition(count - positives)
    targets = torch.zeros(count, dtype=torch.float32, device="cpu")
    positive_rows = torch.from_numpy(order[count - positives :])
    negative_rows = torch.from_numpy(order[: count - positives])
    targets[positive_rows] = 1
    if flips:
        for rows, flipped in ((positive_rows, 0), (negative_rows, 1)):
            targets[rows[torch.randperm(len(rows), generator=generator, device="cpu")[:flips]]] = flipped
    return targets


def _normal(count: int, seed: int, purpose: str) -> Tensor:
    # Device and dtype are named, as the process may have other defaults.
    return torch.randn(count, generator=_generator(seed, purpose), dtype=torch.float32, device="cpu")


def _generator(seed: int, purpose: str) -> torch.Generator:
    """A private generator for one purpose; streams of different purposes have nothing in common."""
    mixed = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1, np.uint64)
    return torch.Generator(device="cpu").manual_seed(int(mixed[0]))


def _fingerprint(config: SyntheticData) -> str:
    keys = ("samples", "dimensions", "noise", "label_flips", "positive_share", "seed")
    parameters = {"recipe": RECIPE, **{name: getattr(config, name) for name in keys}}
    return "sha256:" + hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()

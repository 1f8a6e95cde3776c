"""Cut one split into batches for training, in an order that depends on (seed, epoch, step) and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from gradkit.errors import ConfigError, did_you_mean
from gradkit.train.data.dataset import Split
from gradkit.train.data.pipeline import Pipeline
from gradkit.train.data.staging import Ring, resident

CHUNK_ROWS = 16_384
"""Rows gathered at once, unless a batch is larger. Chunks of twice the size were slower at batch 16384 (they no longer
stay in the caches on their way from one thread to the other), chunks of half the size slower at 1024."""

BUFFERS = 5
"""Chunks that can exist at once: one in use, the one before it, and three gathered or being gathered."""

SHUFFLES = ("full", "batches", "none")

Batch = tuple[Tensor, Tensor]


class Batches:
    """Batches of one split, as views, without a copy per batch.

    Shuffles:
        full: Every epoch visits all samples in a new order, a permutation from a private generator seeded by (seed,
            epoch). Rows are gathered in chunks of about `CHUNK_ROWS`, at least one batch, into `BUFFERS` buffers that
            take turns; a thread gathers ahead while a chunk is used. There is no thread for a single chunk.
        batches: Slices of neighbouring samples, in a new order every epoch. A short last slice stays last.
        none: Slices in the order of the source.

    A batch of a full shuffle is valid until the next chunk but one begins, so for more than `CHUNK_ROWS` rows, or
    for one more batch when batches are larger than that. Keep a clone of what must live longer. Batches of the other
    shuffles stay valid. None of them may be written to.

    Several ranks: batch k of all ranks together holds the same samples as batch k of one rank with a batch size of
    `ranks * batch_size`. All ranks get equally many samples, no sample twice; the last `len(split) % ranks` of the
    order, at most ranks - 1, are left out of the epoch.

    Devices: on the CPU the split is used where it lies. On others it is moved there once and gathered there; a split
    that would take more than half of a GPU's free memory stays in host memory and is copied by the chunk, from
    pinned buffers. The order does not depend on the device.

    Attributes:
        steps_per_epoch: Batches in an epoch on this rank; the last may be smaller than the others.
        samples_per_epoch: Samples in an epoch on this rank.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int,
        shuffle: str = "full",
        device: torch.device | str = "cpu",
        rank: int = 0,
        ranks: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Put the split where it will be read from.

        Args:
            split: The samples; not copied when on the CPU and `dtype` is float32.
            batch_size: Samples in a batch; more than there are means all.
            seed: Seed of the order, 0 or more.
            shuffle: "full", "batches" or "none".
            device: Where batches are wanted.
            rank: Number of this process, from 0.
            ranks: Number of processes.
            dtype: Floating dtype of features and targets.

        Raises:
            ConfigError: An unknown shuffle, a batch size below 1, or fewer samples than ranks.
        """
        if shuffle not in SHUFFLES:
            raise ConfigError(
                f"trainer.shuffle={shuffle!r}: expected one of {', '.join(SHUFFLES)}.{did_you_mean(shuffle, SHUFFLES)}"
            )
        if batch_size < 1:
            raise ConfigError(f"trainer.batch_size={batch_size}: expected at least 1.")
        if not 0 <= rank < ranks:
            raise ValueError(f"rank must be in [0, {ranks}), got {rank}")
        if len(split) < ranks:
            raise ConfigError(f"trainer.devices={ranks} is more than the {len(split)} samples to train on.")
        self._seed, self._shuffle, self._rank, self._ranks = seed, shuffle, rank, ranks
        self.samples_per_epoch = len(split) // ranks
        self._batch = min(batch_size, self.samples_per_epoch)
        self.steps_per_epoch = -(-self.samples_per_epoch // self._batch)
        self._device = torch.device(device)
        self._rows_per_chunk = min(max(1, CHUNK_ROWS // self._batch) * self._batch, self.samples_per_epoch)
        self._features, self._targets = split.features.to(dtype), split.targets.to(dtype)
        if resident(self._features, self._targets, self._device):
            self._features, self._targets = self._features.to(self._device), self._targets.to(self._device)
        self._spare: list[Ring] = []
        self._next_order: tuple[int, Tensor] | None = None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch, from batch `start` on.

        The iterator may be given up at any time; its thread ends when it is closed or collected. The global random
        state is not touched.

        Args:
            epoch: Number of the epoch, from 0.
            start: Number of the first batch wanted, from 0; the others are the same as in the whole epoch.

        Yields:
            Features, (batch, *input_shape), and targets, (batch,), of the chosen dtype on the chosen device.

        Raises:
            ValueError: `start` is not in [0, steps_per_epoch] or `epoch` is negative.
        """
        if not 0 <= start <= self.steps_per_epoch or epoch < 0:
            raise ValueError(f"epoch {epoch}, start {start}: expected epoch >= 0, 0 <= start <= {self.steps_per_epoch}")
        return self._gathered(epoch, start) if self._shuffle == "full" else self._sliced(epoch, start)

    def _gathered(self, epoch: int, start: int) -> Iterator[Batch]:
        rows = self._rows_per_chunk
        begins = range(start * self._batch, self.samples_per_epoch, rows)
        if not begins:
            return
        ring = self._spare.pop() if self._spare else self._ring()
        order = self._order(epoch)
        pieces = [order[begin : begin + rows] for begin in begins]

        def gather(chunk: int) -> None:
            ring.gather(chunk, pieces[chunk])

        pipeline = None
        chunk = -1
        try:
            # On a device gathering is queued, not waited for, so a thread would gain nothing.
            if len(begins) > 1 and self._features.device.type == "cpu":
                pipeline = Pipeline(len(begins), ring.buffers, gather, partial(self._prepare_order, epoch + 1))
            ready = gather if pipeline is None else pipeline.take
            for chunk, piece in enumerate(pieces):
                ready(chunk)
                features, targets = ring.deliver(chunk, len(piece))
                yield from zip(torch.split(features, self._batch), torch.split(targets, self._batch), strict=True)
        finally:
            if pipeline is not None:
                pipeline.close()
            ring.first += chunk + 1
            self._spare.append(ring)

    def _ring(self) -> Ring:
        chunks = -(-self.samples_per_epoch // self._rows_per_chunk)
        return Ring(self._features, self._targets, self._rows_per_chunk, min(BUFFERS, chunks + 2), self._device)

    def _sliced(self, epoch: int, start: int) -> Iterator[Batch]:
        full = self.samples_per_epoch // self._batch
        places: Sequence[int] = range(self.steps_per_epoch)
        if self._shuffle == "batches":
            shuffled = torch.randperm(full, generator=_generator(self._seed, epoch), device="cpu").tolist()
            places = [*shuffled, *places[full:]]
        for place in places[start:]:
            rows = min(self._batch, self.samples_per_epoch - place * self._batch)
            begin = place * self._batch * self._ranks + self._rank * rows
            features, targets = self._features.narrow(0, begin, rows), self._targets.narrow(0, begin, rows)
            if features.device.type != self._device.type:
                features, targets = features.to(self._device), targets.to(self._device)
            yield features, targets

    def _order(self, epoch: int) -> Tensor:
        """Rows of this rank in the order of an epoch, (samples_per_epoch,), int32 where that is enough, on the CPU."""
        ready = self._next_order
        if ready is not None and ready[0] == epoch:
            return ready[1]
        count = len(self._features)
        # Drawing int32 takes a fifth of the time of int64.
        dtype = torch.int32 if count < 2**31 else torch.int64
        order = torch.randperm(count, generator=_generator(self._seed, epoch), dtype=dtype, device="cpu")
        if self._ranks == 1:
            return order
        return order[: self.samples_per_epoch * self._ranks][self._rank :: self._ranks].contiguous()

    def _prepare_order(self, epoch: int) -> None:
        self._next_order = (epoch, self._order(epoch))


def _generator(seed: int, epoch: int) -> torch.Generator:
    """A private generator; mixing keeps (1, 2) and (2, 1), or neighbouring seeds, apart."""
    # A hash costs 0.6 us, a NumPy SeedSequence 12: a lot for an epoch of six batches.
    mixed = hashlib.blake2b(f"batches {seed} {epoch}".encode(), digest_size=8).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(mixed, "little"))

"""Buffers, used in turn, that hold gathered rows on their way from where samples lie to where they are wanted."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pair = tuple[Tensor, Tensor]


class Ring:
    """Reused buffers for chunks of rows of one split.

    Chunks are numbered on and on, also over several epochs; chunk n lives in buffer n modulo the number of buffers.

    Attributes:
        buffers: Number of buffers.
        first: Number of the first chunk of the epoch being gathered.
    """

    def __init__(self, features: Tensor, targets: Tensor, rows: int, buffers: int, device: torch.device) -> None:
        """Allocate the buffers.

        Args:
            features: (samples, *input_shape), where rows are gathered from.
            targets: (samples,), beside them.
            rows: Rows a buffer holds.
            buffers: Number of buffers.
            device: Where chunks are wanted: where the samples lie, or a CUDA device while they lie in host memory.
        """
        self.buffers = buffers
        self.first = 0
        self._source = (features, targets)
        self._copies = features.device.type != device.type
        # Tensors made under inference_mode could not be saved for a backward.
        with torch.inference_mode(False):
            self._gathered = [self._allocate(rows, features.device, self._copies) for _ in range(buffers)]
            self._wanted = [self._allocate(rows, device) for _ in range(buffers)] if self._copies else self._gathered
        self._copied: list[torch.cuda.Event | None] = [None] * buffers
        # In host memory by NumPy, a row being one element: it copies each by one call, where torch's index_select
        # goes through its machinery of strides for each. At batch 16384 of 100 float32, with two cores and the other
        # half of the work going on beside it, an epoch takes 4 to 6 % less time.
        self._opaque = all(source.is_cpu and source.is_contiguous() for source in self._source)
        if self._opaque:
            self._source_rows = [_opaque_rows(tensor) for tensor in self._source]
            self._buffer_rows = [[_opaque_rows(tensor) for tensor in pair] for pair in self._gathered]

    def gather(self, chunk: int, index: Tensor) -> None:
        """Fill the buffer of a chunk, in any thread.

        Args:
            chunk: Number of the chunk within the epoch.
            index: (rows,), int32 or int64, on the CPU.
        """
        slot = (self.first + chunk) % self.buffers
        copied = self._copied[slot]
        if copied is not None:
            copied.synchronize()
        if self._opaque:
            places = index.numpy()
            for rows, buffer_rows in zip(self._source_rows, self._buffer_rows[slot], strict=True):
                # Without "clip" it would gather into an array of its own first; no place is out of bounds.
                np.take(rows, places, out=buffer_rows[: len(places)], mode="clip")
            return
        index = index.to(self._source[0].device, non_blocking=True)
        for source, buffer in zip(self._source, self._gathered[slot], strict=True):
            torch.index_select(source, 0, index, out=buffer.narrow(0, 0, len(index)))

    def deliver(self, chunk: int, rows: int) -> Pair:
        """The gathered rows where they are wanted, as views; for the thread that uses them.

        It does not wait for the device.
        """
        slot = (self.first + chunk) % self.buffers
        features, targets = (buffer.narrow(0, 0, rows) for buffer in self._wanted[slot])
        if self._copies:
            for host, wanted in zip(self._gathered[slot], (features, targets), strict=True):
                wanted.copy_(host.narrow(0, 0, rows), non_blocking=True)
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(features.device))
            self._copied[slot] = event
        return features, targets

    def _allocate(self, rows: int, device: torch.device, pinned: bool = False) -> Pair:
        features, targets = (
            torch.empty((rows, *source.shape[1:]), dtype=source.dtype, device=device, pin_memory=pinned)
            for source in self._source
        )
        return features, targets


def _opaque_rows(tensor: Tensor) -> NDArray[np.void]:
    """A view of a contiguous tensor in which each row is one element of as many bytes."""
    row_bytes = tensor.itemsize * tensor.shape[1:].numel()
    return tensor.detach().view(-1).view(torch.uint8).numpy().view(np.dtype((np.void, row_bytes)))


def resident(features: Tensor, targets: Tensor, device: torch.device) -> bool:
    """Whether a split may be moved to a device whole: always, but for one over half of a GPU's free memory."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * (features.nbytes + targets.nbytes) <= free

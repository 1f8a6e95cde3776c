"""Whether tensors were left bit-identical: checksums queued on their device, compared there, read as one number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradkit.observe.tensors.measure import Reader, plain
from gradkit.observe.tensors.transforms import has_numbers

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksum(tensor: Tensor) -> Tensor | None:
    """The sum of a tensor's bit patterns modulo 2**64 as a 0-d int64 tensor, queued without waiting for the device.

    Any change of a single element changes it; two changes could cancel only if their bit patterns differ by exactly
    opposite integers. None for a tensor without data: on the meta device, fake, or with its storage freed (sharded
    training resizes it to nothing).
    """
    with torch.no_grad():
        values = plain(tensor.detach())
        if values.is_complex():
            values = torch.view_as_real(values)
        if not has_numbers(values) or (values.numel() and values.untyped_storage().size() == 0):
            return None
        return values.view(_INTEGERS[values.element_size()]).sum(dtype=torch.int64)


def checksums(tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """`checksum` of each tensor."""
    return [checksum(tensor) for tensor in tensors]


def changed(before: Sequence[Tensor | None], after: Sequence[Tensor | None], reader: Reader) -> list[bool | None]:
    """For each pair of checksums whether they differ, None where one is missing; one read."""
    pairs = [
        (index, a, b) for index, (a, b) in enumerate(zip(before, after, strict=True)) if a is not None and b is not None
    ]
    result: list[bool | None] = [None] * len(before)
    if pairs:
        values = reader.read([(a != b.to(a.device)).to(torch.float32) for _, a, b in pairs])
        for (index, _, _), value in zip(pairs, values, strict=True):
            result[index] = value != 0.0
    return result

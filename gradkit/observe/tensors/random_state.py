"""Whether dropout has drawn random numbers, without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradkit.observe.tensors.measure import same


def random_state(module: nn.Module) -> Tensor | int | None:
    """The state of the generator that dropout on the module's device draws from, without waiting for the device."""
    parameter = next(module.parameters(), None)
    if parameter is None or parameter.is_cpu:
        return torch.default_generator.get_state()
    if parameter.is_cuda and not torch.cuda.is_current_stream_capturing():
        return int(torch.cuda.default_generators[parameter.device.index or 0].get_offset())
    return None


def has_drawn(module: nn.Module, before: Tensor | int | None) -> bool:
    """Whether something was drawn from that generator since; True where its state is not known."""
    now = random_state(module)
    if isinstance(before, Tensor) and isinstance(now, Tensor):
        return not same(before, now)
    return before is None or before != now

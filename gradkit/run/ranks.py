"""Which process of a distributed run this one is; asks torch only where torch is there, and asks no other process."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """A process's place: its number, how many there are, and whether that is known."""

    number: int = 0
    count: int = 1


_seen = Rank()


def this_rank() -> Rank:
    """The rank by torch's process group, else by the environment a launcher sets, else that of a single process.

    A group that was destroyed since is remembered: reports are written when a process ends.
    """
    global _seen
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        _seen = Rank(distributed.get_rank(), distributed.get_world_size())
    elif _seen.count == 1:
        number, count = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
        if number.isdecimal() and count.isdecimal() and int(number) < int(count):
            return Rank(int(number), int(count))
    return _seen

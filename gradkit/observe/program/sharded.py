"""The whole parameters that `fully_shard` puts in the place of the sharded ones for a forward, and which is which.

An optimizer and the module at rest hold the sharded parameter, a graph leads to the whole one. Nothing in torch's
public interface leads from one to the other, so where its inner one has changed, leaves stand for themselves.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gradkit.observe.program.living import living_roots
from gradkit.observe.tensors.known import Known, KnownSet

_sharded: Known[Tensor, weakref.ref[Tensor]] = Known()
_whole: Known[Tensor, weakref.ref[Tensor]] = Known()
_others: KnownSet[Tensor] = KnownSet()


def sharded_of(leaves: Sequence[Tensor]) -> list[Tensor]:
    """For each leaf of a graph the parameter that stands for it between forwards, mostly the leaf itself."""
    if not _is_sharding():
        return list(leaves)
    if any(leaf not in _sharded and leaf not in _others and leaf not in _whole for leaf in leaves):
        _search()
        _others.update(leaf for leaf in leaves if leaf not in _sharded)
    return [_followed(_sharded, leaf) for leaf in leaves]


def whole_of(parameter: Tensor) -> Tensor:
    """What takes part in forwards for a parameter, mostly itself; known once `sharded_of` has been asked."""
    return _followed(_whole, parameter)


def _followed(known: Known[Tensor, weakref.ref[Tensor]], tensor: Tensor) -> Tensor:
    reference = known.get(tensor)
    found = None if reference is None else reference()
    return tensor if found is None else found


def _is_sharding() -> bool:
    return "torch.distributed.fsdp" in sys.modules and torch.distributed.is_initialized()


def _search() -> None:
    """One pass over the living modules."""
    for state in _states():
        groups = getattr(state, "_fsdp_param_groups", None) or [getattr(state, "_fsdp_param_group", None)]
        for item in (item for group in groups for item in getattr(group, "fsdp_params", ())):
            whole, sharded = getattr(item, "_unsharded_param", None), getattr(item, "sharded_param", None)
            if isinstance(whole, Tensor) and isinstance(sharded, Tensor):
                _sharded[whole], _whole[sharded] = weakref.ref(sharded), weakref.ref(whole)


def _states() -> Iterator[Any]:
    modules: Iterable[Any] = (module for root in living_roots() for module in root.modules())
    for module in modules:
        if hasattr(type(module), "_get_fsdp_state"):
            yield module._get_fsdp_state()

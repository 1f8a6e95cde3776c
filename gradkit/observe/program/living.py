"""Walks over all objects of the process: the only place that does."""

from __future__ import annotations

import gc
import sys
from itertools import compress
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradkit.observe.tensors.known import KnownSet


def living_tensors() -> list[Tensor]:
    """All tensors of this process that carry a graph; one pass over every object, some 50 ms."""
    # `issubclass(type(x), ...)`: isinstance would run the `__class__` property of lazy proxies.
    return [item for item in gc.get_objects() if issubclass(type(item), Tensor) and item.grad_fn is not None]


def living_roots() -> list[nn.Module]:
    """Modules of this process that are part of no other module; one pass over all objects, about 50 ms."""
    # By type: isinstance would run the `__class__` property of lazy proxies. In C: there are 300,000 objects and more.
    objects = gc.get_objects()
    modules = list(compress(objects, map(_module_types().__contains__, map(type, objects))))
    del objects
    children = KnownSet(
        child for module in modules for child in (module.__dict__.get("_modules") or {}).values() if child is not None
    )
    return [module for module in modules if module not in children and "_parameters" in module.__dict__]


def _module_types() -> set[type]:
    """`nn.Module` and everything derived from it."""
    found: set[type] = {nn.Module}
    waiting: list[type] = [nn.Module]
    while waiting:
        new: set[type] = set(type.__subclasses__(waiting.pop())) - found
        found |= new
        waiting += new
    return found


def living_optimizers() -> list[Optimizer]:
    """Every torch optimizer alive in this process, watched or not; one pass over all objects, about 50 ms."""
    found = [item for item in gc.get_objects() if issubclass(type(item), Optimizer)]
    return [item for item in found if "param_groups" in item.__dict__]


def living_trainers() -> list[Any]:
    """Hugging Face trainers alive in this process; one pass over all objects, about 50 ms."""
    trainer = getattr(sys.modules.get("transformers.trainer"), "Trainer", None)
    return [] if trainer is None else [item for item in gc.get_objects() if issubclass(type(item), trainer)]


def attention_in_eval_mode() -> bool:
    """Whether some attention is in eval mode: torch's own fused code for it steps aside while any mode is on."""
    kinds = (nn.TransformerEncoderLayer, nn.MultiheadAttention)
    return any(issubclass(type(item), kinds) and not item.training for item in gc.get_objects())

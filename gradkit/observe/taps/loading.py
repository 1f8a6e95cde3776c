"""The loading of weights into a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from gradkit.observe.taps.patches import Patch, telling
from gradkit.observe.taps.signals import tell


def _loaded(
    listeners: Sequence[Any], result: Any, module: nn.Module, state_dict: Mapping[str, Any], *_: Any, **__: Any
) -> None:
    tell(listeners, "state_loaded", module, state_dict, frozenset(getattr(result, "missing_keys", ())))


LOADING = Patch("torch.nn.Module.load_state_dict", lambda: nn.Module, "load_state_dict", telling(after=_loaded))
"""Tells `state_loaded(module, state, missing)` when weights were loaded into a module."""

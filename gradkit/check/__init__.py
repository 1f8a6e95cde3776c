"""Gradient checks and verified properties of a training step; each name is loaded on first use.

The functions live in private modules so that `gradkit.check.module` is always the function, and so that
`python -m gradkit.check --help` answers without importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradkit.check._accumulation import accumulation as accumulation
    from gradkit.check._errors import CheckFailedError as CheckFailedError
    from gradkit.check._errors import CheckInputError as CheckInputError
    from gradkit.check._function import function as function
    from gradkit.check._gradients import gradients as gradients
    from gradkit.check._independence import batch_independence as batch_independence
    from gradkit.check._independence import causality as causality
    from gradkit.check._inference import inference as inference
    from gradkit.check._module import module as module
    from gradkit.check._overfit import overfit as overfit
    from gradkit.check._result import CheckResult as CheckResult

_HOMES = {
    "accumulation": "_accumulation",
    "batch_independence": "_independence",
    "causality": "_independence",
    "function": "_function",
    "gradients": "_gradients",
    "inference": "_inference",
    "module": "_module",
    "overfit": "_overfit",
    "CheckFailedError": "_errors",
    "CheckInputError": "_errors",
    "CheckResult": "_result",
}

__all__ = [
    "CheckFailedError",
    "CheckInputError",
    "CheckResult",
    "accumulation",
    "batch_independence",
    "causality",
    "function",
    "gradients",
    "inference",
    "module",
    "overfit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

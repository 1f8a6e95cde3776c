"""Gradient checks and verified properties of a training step; each name is loaded on first use.

The functions live in `gradkit.check.engine` so that `gradkit.check.module` is always the function, and so that
`python -m gradkit.check --help` answers without importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradkit.check.engine.accumulation import accumulation as accumulation
    from gradkit.check.engine.compiled import compiled as compiled
    from gradkit.check.engine.documents import documents as documents
    from gradkit.check.engine.errors import CheckFailedError as CheckFailedError
    from gradkit.check.engine.errors import CheckInputError as CheckInputError
    from gradkit.check.engine.files import read_results as read_results
    from gradkit.check.engine.function import function as function
    from gradkit.check.engine.gradients import gradients as gradients
    from gradkit.check.engine.independence import batch_independence as batch_independence
    from gradkit.check.engine.independence import causality as causality
    from gradkit.check.engine.inference import inference as inference
    from gradkit.check.engine.module import module as module
    from gradkit.check.engine.overfit import overfit as overfit
    from gradkit.check.engine.result import CheckResult as CheckResult

_HOMES = {
    "accumulation": "accumulation",
    "batch_independence": "independence",
    "causality": "independence",
    "compiled": "compiled",
    "documents": "documents",
    "function": "function",
    "gradients": "gradients",
    "inference": "inference",
    "module": "module",
    "overfit": "overfit",
    "read_results": "files",
    "CheckFailedError": "errors",
    "CheckInputError": "errors",
    "CheckResult": "result",
}

__all__ = [
    "CheckFailedError",
    "CheckInputError",
    "CheckResult",
    "accumulation",
    "batch_independence",
    "causality",
    "compiled",
    "documents",
    "function",
    "gradients",
    "inference",
    "module",
    "overfit",
    "read_results",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.engine.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

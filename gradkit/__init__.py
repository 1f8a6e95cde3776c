"""A sanitizer for gradients; importing this package loads neither torch nor a framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradkit.errors import GradkitError as GradkitError
from gradkit.errors import HygieneError as HygieneError

if TYPE_CHECKING:
    from gradkit.findings import Finding as Finding
    from gradkit.findings import Severity as Severity
    from gradkit.observe.monitor import Monitor as Monitor
    from gradkit.observe.monitor import watch as watch
    from gradkit.records import Window as Window

__version__ = "0.1.0"

__all__ = ["Finding", "GradkitError", "HygieneError", "Monitor", "Severity", "Window", "watch"]

# Loaded on first use: modules that need torch, and values that nobody needs to start (the pytest plugin is imported in
# every session of everyone who has gradkit installed).
_LAZY = {
    "Finding": "gradkit.findings",
    "Monitor": "gradkit.observe.monitor",
    "Severity": "gradkit.findings",
    "Window": "gradkit.records",
    "watch": "gradkit.observe.monitor",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'gradkit' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})

"""Importing a user's own class by its dotted path, only under a prefix allowed on the command line."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean


def check_path(path: str, prefixes: Sequence[str], key: str) -> None:
    """Refuse a dotted path that is malformed or outside the trusted prefixes; imports nothing.

    Args:
        path: Such as `pkg.module.Net`.
        prefixes: What followed `--trust`: whole leading components of dotted paths.
        key: The configuration key the path came from, for the message.

    Raises:
        ConfigError: Says what to type.
    """
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts) or any(part.startswith("__") for part in parts):
        raise ConfigError(f"{key}: expected a dotted path such as pkg.module.Net, got {quoted(path)}.")
    if not _inside(path, prefixes):
        raise ConfigError(f"{key}={path} would run code of {parts[0]!r}; if you trust it, add: --trust {parts[0]}")


def import_trusted(path: str, prefixes: Sequence[str], key: str) -> Any:
    """The class or function at a dotted path, once the path and what it leads to are both trusted.

    The current directory is importable, as it is for `python -m`.

    Args:
        path: Such as `pkg.module.Net`.
        prefixes: What followed `--trust`.
        key: The configuration key the path came from, for the messages.

    Raises:
        ConfigError: The path is not trusted, cannot be imported, or leads to something defined elsewhere: an alias
            such as `pkg.os.system` is not `pkg`'s own code.
    """
    check_path(path, prefixes, key)
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    found = _resolve(path.split("."), key)
    if not isinstance(found, (type, types.FunctionType)):
        raise ConfigError(f"{key}={path} is a {type(found).__name__}; expected a class or a function.")
    origin = f"{found.__module__}.{found.__qualname__}"
    if not _inside(origin, prefixes):
        raise ConfigError(
            f"{key}={path} leads to {quoted(origin)}, outside of --trust {' --trust '.join(prefixes)};"
            " name it by the module that defines it."
        )
    return found


def _inside(path: str, prefixes: Sequence[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def _resolve(parts: Sequence[str], key: str) -> Any:
    found: Any = _import(parts[0], key)
    for depth, part in enumerate(parts[1:], start=1):
        missing = not hasattr(found, part)
        if missing and isinstance(found, types.ModuleType):
            found = _import(".".join(parts[: depth + 1]), key, near=did_you_mean(part, dir(found)))
        elif missing:
            raise ConfigError(f"{key}: {'.'.join(parts[:depth])!r} has no {part!r}.{did_you_mean(part, dir(found))}")
        else:
            found = getattr(found, part)
    return found


def _import(name: str, key: str, near: str = "") -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (error.name == name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"{key}: there is no {name!r} to import; the current directory is searched too.{near}"
            ) from error
        raise ConfigError(f"{key}: importing {name!r} failed: {error}.") from error
    except Exception as error:  # the user's own module: whatever it raises, they want to read it in one line
        raise ConfigError(f"{key}: importing {name!r} failed: {type(error).__name__}: {error}.") from error

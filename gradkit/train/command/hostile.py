"""Refuses configuration that would make Hydra call something: `_target_` and its relatives, log handlers, callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError

INSTANTIATE_WORDS = frozenset({"_target_", "_args_", "_partial_", "_recursive_", "_convert_"})

LOG_CLASSES = frozenset(
    {
        "logging.Formatter",
        "logging.FileHandler",
        "logging.NullHandler",
        "logging.StreamHandler",
        "logging.handlers.RotatingFileHandler",
        "rich.logging.RichHandler",
        "colorlog.ColoredFormatter",
    }
)
LOG_STREAMS = frozenset({"ext://sys.stdout", "ext://sys.stderr"})


def check_harmless(cfg: DictConfig) -> None:
    """Refuse a composed configuration that names code to run, wherever it came from.

    Hydra's own list of forbidden targets is no boundary (`builtins.open` passes it); gradkit needs none of them, so
    only the launcher and sweeper classes of installed Hydra plugins may be named, each at its own place.

    Args:
        cfg: The whole composition, Hydra's part included.

    Raises:
        ConfigError: Names the key and the value.
    """
    plugins = {
        "hydra.launcher._target_": _plugin_names(Launcher),
        "hydra.sweeper._target_": _plugin_names(Sweeper),
    }
    for key, value in _leaves(OmegaConf.to_container(cfg, resolve=False), ""):
        name = key.rpartition(".")[2]
        if name in INSTANTIATE_WORDS and not (isinstance(value, str) and value in plugins.get(key, ())):
            raise ConfigError(
                f"{key}: {quoted(value)} names code to run, which configuration may not do;"
                " your own model goes in as: model=custom model.target=pkg.Net --trust pkg"
            )
        if key.startswith(("hydra.job_logging.", "hydra.hydra_logging.")) and not _is_log_setting(name, value):
            raise ConfigError(f"{key}: {quoted(value)} names code to run; log handlers may use only Python's own.")


def _plugin_names(kind: type[Any]) -> frozenset[str]:
    return frozenset(f"{each.__module__}.{each.__qualname__}" for each in Plugins.instance().discover(kind))


def _is_log_setting(name: str, value: object) -> bool:
    if name in ("class", "()"):
        return value in LOG_CLASSES
    return not isinstance(value, str) or not value.startswith(("ext://", "cfg://")) or value in LOG_STREAMS


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every value that is no container, with its dotted key; a container under a forbidden word counts as a value."""
    if isinstance(node, dict):
        for name, value in node.items():
            inner = f"{key}.{name}" if key else str(name)
            if name in INSTANTIATE_WORDS:
                yield inner, value
            else:
                yield from _leaves(value, inner)
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from _leaves(value, f"{key}[{position}]")
    else:
        yield key, node

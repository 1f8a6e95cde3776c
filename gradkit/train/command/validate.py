"""Checks a composed configuration: ranges, words, and choices that do not go together; imports no framework."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gradkit.config.ranges import check_ranges
from gradkit.config.trust import check_path
from gradkit.config.wording import quoted
from gradkit.errors import ConfigError
from gradkit.train.command.combinations import COMBINATIONS
from gradkit.train.schema import TrainConfig


def check(config: TrainConfig, trust: Sequence[str] = (), base: Path = Path()) -> None:
    """Refuse what cannot be run, before anything heavy is loaded.

    Args:
        config: A composed configuration.
        trust: Module prefixes allowed for `model.target` and `loss.target`.
        base: What relative paths are meant from.

    Raises:
        ConfigError: The first thing found, in the order: ranges, combinations, trust, rules, packages, files.
    """
    check_ranges(config)
    for combination in COMBINATIONS:
        if combination.broken(config):
            raise ConfigError(combination.message(config))
    for key, part in (("model.target", config.model), ("loss.target", config.loss)):
        if (target := getattr(part, "target", None)) is not None:
            check_path(target, trust, key)
    check_rules(config)
    check_packages(config)
    check_files(config, base)


def check_rules(config: TrainConfig) -> None:
    """Refuse rule codes that do not exist.

    Raises:
        ConfigError: Names the key, the code and the nearest one.
    """
    from gradkit.engine import select_rules

    for key, codes in (("watch.select", config.watch.select or []), ("watch.ignore", config.watch.ignore)):
        try:
            select_rules(codes)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from None


def check_packages(config: TrainConfig) -> None:
    """Refuse a choice whose optional package is not installed, with the command that installs it.

    Raises:
        ConfigError: Names the choice and the command.
    """
    if config.data.name in ("csv", "parquet") and not _installed("pyarrow"):
        raise ConfigError(f"data={config.data.name} reads tables with pyarrow; run: pip install gradkit[data]")
    if config.logger.tensorboard and not (_installed("tensorboard") or _installed("tensorboardX")):
        raise ConfigError("logger.tensorboard needs the package tensorboard; run: pip install gradkit[tensorboard]")


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def check_files(config: TrainConfig, base: Path) -> None:
    """Refuse data files that are not there, naming the nearest that is.

    Raises:
        ConfigError: Names the key, the path and the nearest file.
    """
    for name in ("path", "targets"):
        given = getattr(config.data, name, None)
        if given is None:
            continue
        path = Path(moved(given, base))
        try:
            missing = not path.exists()
        except OSError as error:  # such as a name that is too long
            raise ConfigError(f"data.{name}: cannot read {quoted(given)}: {error.strerror}.") from error
        if missing:
            raise ConfigError(f"data.{name}: there is no file {quoted(given)}.{nearest_path(path)}")


def below_home(given: str) -> Path:
    """The path as given, a leading `~` as the home directory: a shell leaves it alone in `data.path=~/x.csv`."""
    path = Path(given)
    with suppress(RuntimeError):  # there is no user of that name
        path = path.expanduser()
    return path


def moved(given: str, base: Path) -> str:
    """The path as given; one that is relative and not below the home directory from `base` on."""
    path = below_home(given)
    return str(path if path.is_absolute() or base == Path() else base / path)


def nearest_path(path: Path) -> str:
    """A sentence naming the entry beside `path` with the nearest name, with a leading space, or an empty string."""
    try:
        beside = [each.name for each in path.parent.iterdir() if each != path]
    except OSError:
        return f" There is no folder {quoted(str(path.parent))}." if not path.parent.exists() else ""
    close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.6)
    return f" Did you mean {quoted(str(path.parent / close[0]))}?" if close else ""

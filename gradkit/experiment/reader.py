"""One mapping of an `experiment.yaml`: every question it is asked checks the type and names the key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.experiment.schema import FILE

LARGEST_BYTES = 1_000_000


class Reader:
    """One mapping of the file.

    Args:
        values: What should be a mapping.
        where: The file and the way to it, for messages.

    Raises:
        ConfigError: It is none; and so does every question below whose answer has another type than expected.
    """

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: expected keys with values, got {quoted(values)}.")
        self.values: dict[str, Any] = {str(key): value for key, value in values.items()}
        self.where = where

    def has(self, key: str) -> bool:
        """Whether the key is there with a value."""
        return self.values.get(key) is not None

    def only(self, keys: Sequence[str]) -> None:
        """Refuse every other key."""
        for key in self.values:
            if key not in keys:
                raise ConfigError(f"{self.where}: unknown key {quoted(key)}.{did_you_mean(key, keys)}")

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not blank."""
        value = self.values.get(key, default)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{self.where}: {key} should be text, got {quoted(value)}.")
        return value

    def words(self, key: str) -> tuple[str, ...]:
        """A list of texts; none when the key is absent."""
        value = self.values.get(key) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{self.where}: {key} should be a list of texts, got {quoted(value)}.")
        return tuple(value)

    def mapping(self, key: str) -> dict[str, Any]:
        """A mapping; an empty one when the key is absent."""
        value = self.values.get(key) or {}
        if not isinstance(value, dict):
            raise ConfigError(f"{self.where}: {key} should be a mapping, got {quoted(value)}.")
        return {str(name): each for name, each in value.items()}

    def part(self, key: str) -> Reader:
        """A mapping that is there, to be asked in turn."""
        return Reader(self.values[key], f"{self.where}: {key}")

    def parts(self, key: str) -> list[Reader]:
        """A list of mappings; none when the key is absent."""
        value = self.values.get(key) or []
        if not isinstance(value, list):
            raise ConfigError(f"{self.where}: {key} should be a list, got {quoted(value)}.")
        return [Reader(each, f"{self.where}: {key}[{number}]") for number, each in enumerate(value)]


def load(path: Path) -> Reader:
    """The whole file.

    Raises:
        ConfigError: It is missing, too large, no YAML, or no mapping.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes; an experiment has at most {LARGEST_BYTES:,}.")
        made = OmegaConf.load(path)
    except FileNotFoundError:
        raise ConfigError(f"There is no {FILE} in {quoted(str(path.parent))}.") from None
    except (OSError, YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(made, DictConfig):
        raise ConfigError(f"{path}: expected keys such as question and arms at the top.")
    plain: Any = OmegaConf.to_container(made, resolve=False)
    return Reader(plain, str(path))

"""Where experiments are: beside the package in a checkout, inside it in a wheel, or any folder of the user's."""

from __future__ import annotations

from pathlib import Path

import gradkit
from gradkit.config.wording import listed, quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.experiment.schema import FILE


def experiments_folder() -> Path | None:
    """The folder of gradkit's own experiments, or None when the installation has none."""
    package = Path(gradkit.__file__).resolve().parent
    for folder in (package / "experiments", package.parent / "experiments"):
        if any(folder.glob(f"*/{FILE}")):
            return folder
    return None


def shipped() -> dict[str, Path]:
    """Name to folder of gradkit's own experiments."""
    base = experiments_folder()
    return {} if base is None else {path.parent.name: path.parent for path in sorted(base.glob(f"*/{FILE}"))}


def find(name: str) -> Path:
    """The folder of an experiment.

    Args:
        name: Of one of gradkit's own, or a folder with an `experiment.yaml`, or that file.

    Raises:
        ConfigError: Neither; the nearest name is offered.
    """
    known = shipped()
    try:
        path = Path(name)
        if path.name == FILE and path.is_file():
            return path.parent
        if (path / FILE).is_file() and (path.parent != Path() or name not in known):
            return path
    except (OSError, ValueError) as error:
        raise ConfigError(f"{quoted(name)} names no folder: {getattr(error, 'strerror', None) or error}.") from None
    if name in known:
        return known[name]
    raise ConfigError(
        f"There is no experiment {quoted(name)}.{did_you_mean(name, known)} Take one of {listed(known) or 'none'},"
        f" or a folder with an {FILE}."
    )

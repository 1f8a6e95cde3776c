"""Where gradkit's YAML files are; imports no framework."""

from __future__ import annotations

from pathlib import Path

import gradkit
from gradkit.errors import ConfigError

PRIMARY = "train.yaml"


def configs_folder() -> Path:
    """The folder of the YAML files, wherever gradkit is installed.

    A wheel carries it inside the package; a checkout and an editable install have it beside the package.

    Raises:
        ConfigError: In neither place; the installation is incomplete.
    """
    package = Path(gradkit.__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / PRIMARY).is_file():
            return folder
    raise ConfigError(f"The configuration files of gradkit are missing beside {str(package)!r}; install gradkit again.")

"""Where runs will write, checked before anything is made."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, RunFolderError
from gradkit.store import MANIFEST


def check_run_folder(cfg: DictConfig, *, resumed: bool) -> None:
    """Refuse a single run whose folder cannot be made, or would overwrite another run.

    Args:
        cfg: The whole composition, Hydra's part included.
        resumed: The run in the folder is meant to be gone on with.

    Raises:
        GradkitError: Names `hydra.run.dir` and what is in the way.
    """
    folder = _path(cfg, "hydra.run.dir")
    _check_can_be_made(folder, "hydra.run.dir")
    if not resumed and (folder / MANIFEST).exists():
        raise RunFolderError(
            f"hydra.run.dir: {quoted(str(folder))} holds a run already; go on with it by"
            f" trainer.resume={folder}, or choose another folder."
        )


def check_sweep_folder(cfg: DictConfig, arms: int) -> None:
    """Refuse a sweep whose folder cannot be made, or whose runs would share one.

    Args:
        cfg: The whole composition, Hydra's part included.
        arms: How many runs there are.

    Raises:
        GradkitError: Names the key and what is in the way.
    """
    _check_can_be_made(_path(cfg, "hydra.sweep.dir"), "hydra.sweep.dir")
    cfg = cfg.copy()
    seen = set()
    for number in range(min(arms, 2)):
        with read_write(cfg.hydra), open_dict(cfg.hydra):
            cfg.hydra.job.num = number
            cfg.hydra.job.id = str(number)
            # A stand-in: it differs between runs too, but is not known here.
            cfg.hydra.job.override_dirname = str(number)
        seen.add(_path(cfg, "hydra.sweep.subdir"))
    raw = OmegaConf.to_container(cfg.hydra.sweep, resolve=False)
    fixed = isinstance(raw, dict) and "${" not in str(raw.get("subdir"))
    if fixed and len(seen) < min(arms, 2):
        raise ConfigError(f"hydra.sweep.subdir={min(seen)} is the same for every run; put ${{hydra.job.num}} into it.")


def _path(cfg: DictConfig, key: str) -> Path:
    try:
        value = OmegaConf.select(cfg, key, throw_on_missing=True)
    except (OmegaConfBaseException, RecursionError, ValueError, OSError) as error:
        why = "it refers to itself" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise ConfigError(f"{key}: cannot resolve it: {why}.") from error
    if value is None or not str(value) or "\0" in str(value):
        raise ConfigError(f"{key}: expected a folder, got {quoted(value)}.")
    return Path(str(value)).absolute()


def _check_can_be_made(folder: Path, key: str) -> None:
    try:
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            problem = f"{quoted(str(there))} is a file"
        elif not os.access(there, os.W_OK | os.X_OK):
            problem = f"{quoted(str(there))} may not be written"
        else:
            return
    except OSError as error:
        problem = error.strerror or str(error)
    raise RunFolderError(f"{key}: cannot make the folder {quoted(str(folder))}: {problem}.")

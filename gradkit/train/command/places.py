"""Where runs will write: the folders that Hydra's patterns give for each run, checked before anything is made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, RunFolderError
from gradkit.runs.claims import refuse_run
from gradkit.runs.store import MANIFEST


@dataclass(frozen=True)
class Places:
    """The folders of what will be run.

    Attributes:
        key: Hydra's key of `folder`.
        folder: Of the run, or of the sweep; absolute.
        arms: Of each run of a sweep.
        numbered: The runs of the sweep are told apart by their numbers, which every sweep counts from 0.
    """

    key: str
    folder: Path
    arms: tuple[Path, ...] = ()
    numbered: bool = False

    def refuse_runs(self) -> None:
        """Refuse to write where there are runs.

        Raises:
            RunFolderError: A folder of a run holds one already, or a sweep that numbers its runs would mix them with
                those of another one.
        """
        refuse_run(self.folder, self.key)
        for arm in self.arms:
            refuse_run(arm, self.key)
        if self.numbered and (held := next(self.folder.glob(f"*/{MANIFEST}"), None)) is not None:
            raise RunFolderError(
                f"{self.key}: {quoted(str(self.folder))} holds runs already, such as {quoted(held.parent.name)};"
                " choose another folder."
            )


def run_place(whole: DictConfig) -> Places:
    """The folder of a single run.

    Args:
        whole: Its composition, Hydra's part included.

    Raises:
        GradkitError: The pattern leads nowhere, or the folder cannot be made.
    """
    HydraConfig.instance().set_config(whole)
    return Places("hydra.run.dir", _usable(whole, "hydra.run.dir"))


def sweep_places(master: DictConfig, arms: Iterable[DictConfig]) -> Places:
    """The folder of a sweep and of each of its runs.

    Args:
        master: The composition of the sweep itself.
        arms: That of each run, looked at one by one; none where a sweeper makes them up as it goes.

    Raises:
        GradkitError: A pattern leads nowhere, a folder cannot be made, or two runs would share one.
    """
    HydraConfig.instance().set_config(master)
    folder = _usable(master, "hydra.sweep.dir")
    sweep = OmegaConf.to_container(master.hydra.sweep, resolve=False)
    assert isinstance(sweep, dict)
    pattern, patterns = str(sweep["subdir"]), str(sweep)
    taken: dict[Path, int] = {}
    for number, whole in enumerate(arms):
        with read_write(whole.hydra), open_dict(whole.hydra):
            whole.hydra.job.num = number
            whole.hydra.job.id = str(number)
        # A time or an id of the sweep's own folder is the same for all of its runs.
        OmegaConf.copy_cache(master, whole)
        if "${hydra:" in patterns:
            HydraConfig.instance().set_config(whole)
        if number == 0:
            folder = _usable(whole, "hydra.sweep.dir")
        elif (other := _resolved(whole, "hydra.sweep.dir").absolute()) != folder:
            raise ConfigError(
                f"hydra.sweep.dir={quoted(sweep['dir'])} gives {quoted(str(folder))} for run 0 of the sweep and"
                f" {quoted(str(other))} for run {number}; put what differs into hydra.sweep.subdir."
            )
        arm = Path(os.path.normpath(folder / _resolved(whole, "hydra.sweep.subdir")))
        if arm in taken:
            raise ConfigError(
                f"hydra.sweep.subdir={quoted(pattern)} gives the runs {taken[arm]} and {number} of the sweep one"
                f" folder, {quoted(str(arm))}; put ${{hydra.job.num}} into it."
            )
        taken[arm] = number
    return Places("hydra.sweep.dir", folder, tuple(taken), bool(re.search(r"job\.(num|id)\b", pattern)))


def name_job(whole: DictConfig, overrides: Sequence[Override]) -> None:
    """Set what Hydra says of a run's overrides, which its patterns for folders may use, as Hydra itself does."""
    with read_write(whole.hydra), open_dict(whole.hydra):
        form = whole.hydra.job.config.override_dirname
        named = sorted(str(each.input_line) for each in overrides if each.key_or_group not in form.exclude_keys)
        whole.hydra.job.override_dirname = form.item_sep.join(named).replace("=", form.kv_sep)
        whole.hydra.overrides.task = [str(each.input_line) for each in overrides]


def _usable(whole: DictConfig, key: str) -> Path:
    folder = _resolved(whole, key).absolute()
    _check_can_be_made(folder, key)
    return folder


def _resolved(whole: DictConfig, key: str) -> Path:
    try:
        value = OmegaConf.select(whole, key, throw_on_missing=True)
    except (OmegaConfBaseException, RecursionError, ValueError, OSError) as error:
        why = "it refers to itself" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise ConfigError(f"{key}: cannot resolve it: {why}.") from error
    if value is None or not str(value) or "\0" in str(value):
        raise ConfigError(f"{key}: expected a folder, got {quoted(value)}.")
    return Path(str(value))


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

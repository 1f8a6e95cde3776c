"""From the command line to what will be run: every arm composed and checked before anything starts."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gradkit.config.arguments import hydra_quoted
from gradkit.config.sweeps import count_arms
from gradkit.config.wording import listed, quoted
from gradkit.errors import ConfigError, GradkitError, RunFolderError
from gradkit.train.command.compose import chosen_schemas, compose, typed
from gradkit.train.command.explain import COMPOSING_ERRORS, explained
from gradkit.train.command.hostile import check_harmless
from gradkit.train.command.overrides import apply_keys, check_groups, check_operators, check_sweeps, is_group, parse
from gradkit.train.command.places import Places, name_job, run_place, sweep_places
from gradkit.train.command.validate import check
from gradkit.train.running.stored import OF_THE_CALL, StoredRun, check_same_run, read_stored
from gradkit.train.schema import TrainConfig

MOST_ARMS = 10_000
"""Runs in one sweep; more is taken for a mistake in a range."""


@dataclass(frozen=True)
class Arm:
    """One run: the task overrides it is composed from, and the configuration they give."""

    overrides: tuple[str, ...]
    config: TrainConfig


@dataclass(frozen=True)
class Plan:
    """What a command line asks for.

    Attributes:
        overrides: What Hydra is handed: its own overrides, then those of the task, stored ones included.
        arms: Every run; empty when a sweeper other than Hydra's own makes them up as it goes.
        multirun: Whether it is a sweep.
        places: Where it writes.
        going_on: The run in its folder is gone on with.
        base: What relative paths in the configurations are meant from.
    """

    overrides: tuple[str, ...]
    arms: tuple[Arm, ...]
    multirun: bool
    places: Places
    going_on: bool = False
    base: Path = Path()

    def in_words(self) -> str:
        """One line per run, as `--dry-run` prints them."""
        if not self.arms:
            return "A sweep whose runs its sweeper makes up as it goes; nothing was started.\n"
        rows = [f"  {number}  {' '.join(arm.overrides) or '(defaults)'}" for number, arm in enumerate(self.arms)]
        count = f"{len(rows)} runs" if len(rows) > 1 else "1 run"
        return "\n".join([f"{count}, checked; nothing was started.", *rows, ""])


class Planner:
    """Composes arms, each distinct choice of groups once.

    Args:
        hydra: From `gradkit.train.command.compose.session`.
        ours: Overrides of Hydra's own configuration, handed to every composition.
    """

    def __init__(self, hydra: Hydra, ours: Sequence[str] = ()) -> None:
        self.hydra = hydra
        self.ours = tuple(ours)
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def base(self, choices: Sequence[str]) -> DictConfig:
        """The whole composition of some choices of groups, Hydra's part included; not to be changed.

        Raises:
            ConfigError: It cannot be composed, or names code to run.
        """
        key = tuple(choices)
        if key not in self._bases:
            try:
                cfg = compose(self.hydra, [*self.ours, *choices])
            except COMPOSING_ERRORS as error:
                raise explained(error, [*self.ours, *choices]) from error
            check_harmless(cfg)
            # So that `${hydra:...}` in a value resolves here as it does in the run.
            HydraConfig.instance().set_config(cfg)
            self._bases[key] = cfg
        return self._bases[key]

    def arm(self, overrides: Sequence[str]) -> Arm:
        """One run, composed; its ranges and combinations are not yet checked.

        Raises:
            ConfigError: It cannot be composed.
        """
        return self.composed(overrides)[0]

    def composed(self, overrides: Sequence[str]) -> tuple[Arm, DictConfig]:
        """One run as `arm` gives it, and its whole composition, Hydra's part included.

        Raises:
            ConfigError: It cannot be composed.
        """
        parsed = parse(overrides, self.hydra.config_loader)
        check_sweeps(parsed, multirun=False)
        check_groups(parsed, self.hydra.config_loader)
        base = self.base([str(each.input_line) for each in parsed if is_group(each)])
        whole = copy.deepcopy(base)
        apply_keys(whole, parsed, chosen_schemas(whole))
        task = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
        check_harmless(task)
        name_job(whole, parsed)
        return Arm(tuple(overrides), typed(task)), whole


def make_plan(hydra: Hydra, texts: Sequence[str], *, multirun: bool, trust: Sequence[str], rank: int = 0) -> Plan:
    """Compose and check everything a command line asks for.

    Args:
        hydra: From `gradkit.train.command.compose.session`.
        texts: The overrides as typed.
        multirun: Whether `-m` was given.
        trust: Module prefixes from `--trust`.
        rank: Of this process among those of one run; only rank 0 makes folders.

    Raises:
        GradkitError: The first mistake found; nothing was started or written.
    """
    loader = hydra.config_loader
    given = parse(texts, loader)
    check_operators(given)
    check_groups(given, loader)
    ours = [each for each in given if each.is_hydra_override()]
    check_sweeps(ours, multirun=multirun)
    new = [each for each in given if not each.is_hydra_override()]
    stored = find_stored(new)
    before = [] if stored is None else _parse_stored(stored, loader)
    task = merged(before, new)
    planner = Planner(hydra, [*lines(ours), *_folders(stored, ours, rank)])
    master = planner.base(lines(each for each in task if is_group(each) and not each.is_sweep_override()))
    multirun = multirun or master.hydra.mode == RunMode.MULTIRUN
    check_sweeps(given, multirun=multirun)
    wanted = swept(master, task, loader) if multirun else [lines(task)]
    base = Path() if stored is None else stored.base
    original = planner.arm(lines(before)).config if stored is not None else None
    arms: list[Arm] = []

    def compositions() -> Iterator[DictConfig]:
        """Compose and check every arm; the compositions are large, so each is let go before the next."""
        for number, each in enumerate(wanted):
            try:
                arm, whole = planner.composed(each)
                check(arm.config, trust, base)
                _check_stored(arm.config, stored, original)
            except GradkitError as error:
                if len(wanted) == 1:
                    raise
                raise type(error)(f"{error} (in run {number} of the sweep: {listed(each, 8)})") from error
            arms.append(arm)
            yield whole

    if multirun:
        _check_sweep(master, stored, rank)
        places = sweep_places(master, compositions())
        _check_launcher(master, arms)
    else:
        places = run_place(next(compositions()))
    going_on = stored is not None and stored.key == "trainer.resume"
    if rank == 0 and not going_on:
        places.refuse_runs()
    # What a pattern gave here must be what it gives in the run: a time or an id would be another one there.
    pinned = [f"{places.key}={hydra_quoted(str(places.folder))}"] if rank == 0 else []
    kept = [text for text in planner.ours if rank > 0 or text.partition("=")[0].lstrip("+") != places.key]
    return Plan((*kept, *pinned, *lines(task)), tuple(arms), multirun, places, going_on, base)


def lines(overrides: Iterable[Override]) -> list[str]:
    """The overrides as they were typed."""
    return [str(each.input_line) for each in overrides]


def swept(master: DictConfig, task: Sequence[Override], loader: ConfigLoader) -> list[list[str]]:
    """The overrides of every run of a sweep, split as Hydra's own sweeper splits them.

    Args:
        master: The composition whose `hydra.sweeper` decides; `hydra.sweeper.params` are added.
        task: What was given, sweeps such as `seed=0,1` included.
        loader: For `glob` over the choices of a group.

    Returns:
        One list per run; empty when another sweeper than Hydra's own makes the runs up as it goes.

    Raises:
        ConfigError: No run at all, or more than `MOST_ARMS`.
    """
    sweeper = OmegaConf.to_container(master.hydra.sweeper, resolve=True)
    assert isinstance(sweeper, dict)
    if sweeper["_target_"] != f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}":
        return []
    texts = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    given = {each.key_or_group for each in task}
    params = [each for each in parse(texts, loader) if each.key_or_group not in given]
    everything = [*params, *task]
    check_operators(params)
    check_groups(params, loader)
    check_sweeps(params, multirun=True)
    if (total := count_arms(everything)) > MOST_ARMS:
        raise ConfigError(
            f"The sweep has {total} runs; at most {MOST_ARMS} are taken: {quoted(' '.join(lines(task)))}."
        )
    arms = BasicSweeper.split_arguments(everything, None)[0]
    if not arms:
        raise ConfigError(f"The sweep has no runs: {quoted(' '.join(lines(task)))} names no value.")
    return arms


def find_stored(new: Iterable[Override]) -> StoredRun | None:
    """The run on disk that the overrides go on with or evaluate, if they name one.

    Raises:
        GradkitError: They name one that cannot be read.
    """
    values = {each.key_or_group: each for each in new}
    for key in ("trainer.resume", "run"):
        each = values.get(key)
        if each is None or each.is_delete() or (value := each.value()) is None:
            continue
        if each.is_sweep_override():
            raise ConfigError(f"{key}: expected one run folder, got {quoted(each.input_line)}.")
        mode = values["mode"].value() if "mode" in values else "train"
        if key == "trainer.resume" or mode == "evaluate":
            return read_stored(value, key)
    return None


def _parse_stored(stored: StoredRun, loader: ConfigLoader) -> list[Override]:
    try:
        parsed = parse(stored.overrides, loader)
        check_operators(parsed)
        check_sweeps(parsed, multirun=False)
        check_groups(parsed, loader)
    except ConfigError as error:
        raise RunFolderError(f"The overrides stored in {quoted(str(stored.folder))} cannot be used: {error}") from error
    return [each for each in parsed if each.key_or_group not in OF_THE_CALL and not each.is_hydra_override()]


def merged(old: Sequence[Override], new: Sequence[Override]) -> list[Override]:
    """The old overrides, less those whose key is given anew, then the new ones."""
    given = {each.key_or_group for each in new}
    return [*(each for each in old if each.key_or_group not in given), *new]


def _folders(stored: StoredRun | None, ours: Sequence[Override], rank: int) -> list[str]:
    """Hydra's settings for where a run writes, where they are not the default."""
    given = {each.key_or_group for each in ours}
    if rank > 0:
        # The folder is made by rank 0. Hydra makes one in any case, so it is handed one that is there.
        wanted = {"hydra.run.dir": ".", "hydra.output_subdir": None}
    elif stored is None:
        return []
    else:
        if taken := given & {"hydra.run.dir", "hydra.sweep.dir", "hydra.output_subdir"}:
            raise ConfigError(f"{min(taken)} cannot be given with {stored.key}: it writes into the run's own folder.")
        if stored.key == "trainer.resume":
            wanted = {"hydra.run.dir": str(stored.folder), "hydra.output_subdir": None}
        else:
            # The slashes are a path's, on Windows too.
            inner = "/evaluations/${now:%Y-%m-%d_%H-%M-%S}-${gradkit.run_id:}"
            wanted = dict.fromkeys(("hydra.run.dir", "hydra.sweep.dir"), str(stored.folder) + inner)
    return [f"{key}={'null' if value is None else hydra_quoted(value)}" for key, value in wanted.items()]


def _check_stored(config: TrainConfig, stored: StoredRun | None, original: TrainConfig | None) -> None:
    if stored is not None and original is not None:
        check_same_run(stored, original, config)
    elif config.trainer.resume is not None or config.run is not None:
        key = "run" if config.run is not None else "trainer.resume"
        raise ConfigError(f"{key} is read from the command line only; leave it out of configuration files.")


def _check_sweep(master: DictConfig, stored: StoredRun | None, rank: int) -> None:
    if rank > 0 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("-m under torchrun would start one sweep per process; run the arms one by one.")
    if stored is not None and stored.key == "trainer.resume":
        raise ConfigError("trainer.resume goes on with one run in its own folder; leave out -m.")


def _check_launcher(master: DictConfig, arms: Sequence[Arm]) -> None:
    local = master.hydra.launcher._target_ == "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    if not local and any(arm.config.trainer.devices > 1 for arm in arms):
        raise ConfigError("trainer.devices > 1 starts processes of its own; sweep it without hydra/launcher.")

"""From overrides to a typed configuration: where the YAML files are, their schemas, and Hydra's composition."""

from __future__ import annotations

import dataclasses
import secrets
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra import __version__ as hydra_version
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gradkit.config.fields import fields_of, fits, type_in_words, types_of
from gradkit.config.folder import configs_folder
from gradkit.config.wording import quoted
from gradkit.errors import ConfigError
from gradkit.train.command.keys import unknown_key
from gradkit.train.schema import GROUPS, TrainConfig

CONFIG_NAME = "train"
HYDRA_1_3 = hydra_version.startswith("1.3.")
JOB_NAME = "gradkit-train"

PLAIN = (str, int, float, bool, type(None))


def register() -> None:
    """Tell Hydra the schemas and OmegaConf the resolver `gradkit.run_id`; may be called again."""
    store = ConfigStore.instance()
    # A group of their own, so that listings and completion of `model=` do not show every name twice.
    store.store(group="schema", name="train", node=TrainConfig, provider="gradkit")
    for group, choices in GROUPS.items():
        for choice, schema in choices.items():
            store.store(group=f"schema/{group}", name=choice, node=schema, provider="gradkit")
    # Not from a random generator of the run: a seed must not make two folders equal.
    # OmegaConf 2.4, which comes with Hydra 1.4, gives the function the name of an older one and warns of this one.
    add: Callable[..., None] = OmegaConf.register_new_resolver if HYDRA_1_3 else OmegaConf.register_resolver
    add("gradkit.run_id", lambda: secrets.token_hex(4), use_cache=True, replace=True)


# At import, because the workers of Hydra's launchers import this module and never call `main`.
register()


@contextmanager
def session(config_dir: str | None = None) -> Iterator[Hydra]:
    """Hydra, set up for gradkit's files and one folder of the user's; its global state is cleared at the end.

    Args:
        config_dir: A folder of the user's YAML files, searched after gradkit's own, as `--config-dir` of Hydra.

    Raises:
        ConfigError: `config_dir` is no folder.
    """
    if HYDRA_1_3:  # later ones have one behaviour only and warn when they are told
        version.setbase("1.3")
    search_path = create_config_search_path(str(configs_folder()))
    if config_dir is not None:
        folder = Path(config_dir).absolute()
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {quoted(config_dir)} is no folder.")
        search_path.prepend(provider="command-line", path=f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2(task_name=JOB_NAME, config_search_path=search_path)
    finally:
        GlobalHydra.instance().clear()


def compose(hydra: Hydra, overrides: Sequence[str]) -> DictConfig:
    """Compose the whole configuration, Hydra's own part included.

    Args:
        hydra: From `session`.
        overrides: As typed.

    Raises:
        Exception: Whatever Hydra and OmegaConf raise; `gradkit.train.command.explain` turns it into one line.
    """
    with warnings.catch_warnings():
        # "provider=..., path=... is not available": a search path that does not exist is an error of the user's.
        warnings.filterwarnings("error", message="provider=", category=UserWarning)
        return hydra.compose_config(
            config_name=CONFIG_NAME,
            overrides=list(overrides),
            run_mode=RunMode.RUN,
            from_shell=True,
            with_log_configuration=False,
        )


def chosen_schemas(cfg: DictConfig) -> dict[str, type]:
    """The schema in force for each group of a composed configuration."""
    return {group: cast(type, OmegaConf.get_type(cfg, group) or types_of(TrainConfig)[group]) for group in GROUPS}


def typed(cfg: DictConfig) -> TrainConfig:
    """The task's part of a composed configuration as dataclasses, every interpolation resolved.

    Raises:
        ConfigError: An unknown key, a value the user has to give, an interpolation that leads nowhere, or something
            other than plain data.
    """
    chosen = chosen_schemas(cfg)
    for key in cfg:
        if str(key) not in fields_of(TrainConfig) and key not in ("hydra", "preset"):
            raise ConfigError(unknown_key(str(key), chosen))
    parts = {str(key): _plain(cfg, str(key), str(key), types_of(TrainConfig)[str(key)]) for key in _task_keys(cfg)}
    return TrainConfig(**parts, **{group: _part(cfg, group, chosen) for group in GROUPS})


def _task_keys(cfg: DictConfig) -> list[str]:
    return [str(key) for key in cfg if str(key) in fields_of(TrainConfig) and str(key) not in GROUPS]


def _part(cfg: DictConfig, group: str, chosen: dict[str, type]) -> Any:
    schema = chosen[group]
    if schema not in GROUPS[group].values():
        nearest = next(iter(GROUPS[group]))
        raise ConfigError(
            f"{group}: the configuration file names no schema; begin its defaults list with one of gradkit's"
            f" {group} files, such as `- {nearest}`."
        )
    node = cfg[group]
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{group}: expected one of {', '.join(GROUPS[group])}, got {quoted(node)}.")
    known = types_of(schema)
    for key in node:
        if str(key) not in known:
            raise ConfigError(unknown_key(f"{group}.{key!s}", chosen))
    # Every field of the schema: `key in node` would be false for one that is still missing.
    return schema(**{key: _plain(node, key, f"{group}.{key}", known[key]) for key in fields_of(schema)})


def _plain(node: DictConfig, name: str, key: str, annotation: Any) -> Any:
    """The value at `name` as plain Python data."""
    if OmegaConf.is_missing(node, name):
        raise ConfigError(f"{key} is missing; add {key}={_placeholder(name)}{_help(node, name)}.")
    try:
        value = node[name]
        if isinstance(value, (DictConfig, ListConfig)):
            value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raw = OmegaConf.to_container(node, resolve=False)
        given = raw.get(name) if isinstance(raw, dict) else None
        why = "it refers to itself" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise ConfigError(f"{key}: cannot resolve {quoted(given)}: {why}.") from error
    # OmegaConf lets some through, such as a list where a number of a list is expected.
    if not _is_plain(value) or not fits(value, annotation):
        raise ConfigError(f"{key}: expected {type_in_words(annotation)}, got {quoted(value)}.")
    return value


def _placeholder(name: str) -> str:
    return {"path": "FILE", "target": "NAME"}.get(name, "VALUE")


def _help(node: DictConfig, name: str) -> str:
    schema = OmegaConf.get_type(node)
    field = fields_of(schema).get(name) if schema is not None and dataclasses.is_dataclass(schema) else None
    return f" ({field.metadata['help']})" if field is not None else ""


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(_is_plain(each) for each in value)
    return isinstance(value, PLAIN)

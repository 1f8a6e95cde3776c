"""The text of `--help`, printed from the schema and the YAML files without loading Hydra or torch."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from gradkit.config.fields import fields_of, range_in_words, type_in_words, types_of
from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.train.command.keys import top_keys
from gradkit.train.command.options import OPTIONS
from gradkit.train.schema import GROUPS, TrainConfig

WIDTH = 118

COMMAND = "python -m gradkit.train"

INTRODUCTION = f"""\
usage: {COMMAND} [options] [group=choice ...] [group.key=value ...]

Trains a model and writes a run folder below outputs/. Everything has a default: no argument at all trains logistic
regression on scikit-learn's breast cancer set.

  {COMMAND} model=mlp optimizer=adam trainer.epochs=10      choose, and set single values
  {COMMAND} -m seed=0,1,2 optimizer=sgd,adam                a sweep: six runs below multirun/
  {COMMAND} preset=worked_example gradient=both             a ready combination
  {COMMAND} data=csv data.path=FILE data.target=COLUMN      your own table
  {COMMAND} trainer.resume=FOLDER                           go on with a run
  {COMMAND} mode=evaluate run=FOLDER inference=detach       evaluate a finished run
"""


def help_text(folder: Path, overrides: Sequence[str] = ()) -> str:
    """The whole help.

    Args:
        folder: The YAML files.
        overrides: `group=choice` arguments given beside `--help`: the keys of these choices are shown instead of the
            default's.

    Raises:
        ConfigError: One of `overrides` is no choice of a group.
    """
    choices = default_choices(folder)
    narrowed: list[str] = []
    for text in overrides:
        group, _, choice = text.partition("=")
        if group not in GROUPS or choice not in GROUPS[group]:
            near = did_you_mean(choice, GROUPS[group]) if group in GROUPS else did_you_mean(group, GROUPS)
            raise ConfigError(f"--help {quoted(text)}: expected group=choice, such as --help model=mlp.{near}")
        choices[group] = choice
        narrowed.append(group)
    if narrowed:
        blocks = [f"usage: {COMMAND} [options] [group=choice ...] [group.key=value ...]\n"]
    else:
        blocks = [INTRODUCTION, _options(), _groups(folder, choices), _top_keys()]
    blocks += [_keys_of(folder, group, choices[group]) for group in narrowed or GROUPS]
    return "\n".join(blocks).rstrip() + "\n"


def default_choices(folder: Path) -> dict[str, str]:
    """The choice `train.yaml` makes for each group, `preset` aside."""
    entries = _read(folder / "train.yaml")["defaults"]
    merged = {group: choice for entry in entries if isinstance(entry, dict) for group, choice in entry.items()}
    return {group: merged[group] for group in GROUPS}


def presets(folder: Path) -> dict[str, str]:
    """Every preset with its first sentence."""
    found = {}
    for path in sorted((folder / "preset").glob("*.yaml")):
        comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
        found[path.stem] = next((line[2:] for line in comments if not line.startswith("# @")), "")
    return found


def _read(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def _options() -> str:
    return "Options\n" + "".join(f"  {names:<24}{text}\n" for names, text in OPTIONS.items())


def _groups(folder: Path, choices: Mapping[str, str]) -> str:
    lines = ["Groups (* is the default)"]
    for group, schemas in GROUPS.items():
        words = " ".join(f"{choice}*" if choice == choices[group] else choice for choice in schemas)
        lines += _hanging(f"  {group:<12}", words)
    lines += _hanging(f"  {'preset':<12}", "null* " + " ".join(presets(folder)))
    lines += ["", "Presets"]
    lines += [f"  {name:<18}{text}" for name, text in presets(folder).items()]
    return "\n".join(lines) + "\n"


def _top_keys() -> str:
    lines = ["Keys (name, default, type; meaning)"]
    for name in top_keys():
        field = fields_of(TrainConfig)[name]
        lines += _key_lines(name, field.default, types_of(TrainConfig)[name], field.metadata)
    return "\n".join(lines)


def _keys_of(folder: Path, group: str, choice: str) -> str:
    schema = GROUPS[group][choice]
    summary = (schema.__doc__ or "").strip().splitlines()[0]
    values = _read(folder / group / f"{choice}.yaml")
    lines = [f"\n{group}={choice}: {summary}"]
    for field in dataclasses.fields(schema):
        if field.name != "name":
            annotation = types_of(schema)[field.name]
            lines += _key_lines(f"{group}.{field.name}", values.get(field.name), annotation, field.metadata)
    return "\n".join(lines)


def _key_lines(name: str, default: object, annotation: object, metadata: Mapping[str, Any]) -> Iterator[str]:
    limits = range_in_words(metadata)
    kind = limits if "choices" in metadata else ", ".join(filter(None, (type_in_words(annotation), limits)))
    yield from _hanging(f"  {name:<28}{_value(default):<15}", f"{metadata['help']} ({kind})")


def _value(default: object) -> str:
    if default == "???":
        return "(required)"
    if default is None or isinstance(default, bool):
        return {None: "null", True: "true", False: "false"}[default]
    return str(default)


def _hanging(head: str, text: str) -> list[str]:
    indent = " " * len(head)
    return textwrap.wrap(text, WIDTH, initial_indent=head + " ", subsequent_indent=indent + " ") or [head]

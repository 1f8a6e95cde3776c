"""`python -m gradkit.check`: reads the command line, checks all of it, and only then loads torch and compares."""

from __future__ import annotations

import dataclasses
import os
import sys
import typing
from collections.abc import Sequence
from typing import Any

import gradkit
from gradkit.check.command.schema import DTYPES, SWEPT, TARGETS, CheckConfig
from gradkit.config.commands import Parser, answer, say
from gradkit.config.fields import range_in_words, type_in_words
from gradkit.config.folder import configs_folder
from gradkit.config.ranges import check_ranges
from gradkit.config.trust import check_path
from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.report.charts import check_installed

MOST_VALUES = 1000
"""Values of one key; every combination is a check of its own."""

COMMAND = "python -m gradkit.check"

INTRODUCTION = f"""\
usage: {COMMAND} [options] [key=value ...]

Compares gradients by hand, by reverse and by forward mode with differences, each within a bound of its error.

  {COMMAND}                                             the worked example, w = 1, b = 0, x = 6.7, y = 0
  {COMMAND} target=logistic_textbook,logistic_fused dtype=float64,float32,bfloat16,float16 scale=1,10,40
  {COMMAND} target=logistic_textbook scale=range(1,50,3) chart=saturation.html
  {COMMAND} target=mypkg.losses.focal --trust mypkg     your own: a function of the scale that returns
                                                        a dictionary with fn, inputs and manual

Options
  --trust PREFIX   allow a target of yours under this module; may be repeated
  --cfg job        print the configuration and stop
  -h, --help       print this
  --version        print the version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: The arguments, without the program's name; by default those of the process.

    Returns:
        The exit status: 0, 1 for a verdict at or above `fail_on`, 2 for a mistake of the user's, 130 after Ctrl-C.
    """
    return answer("gradkit.check", _run, argv)


def _run(arguments: Sequence[str]) -> int:
    parser = Parser()
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--trust", action="append", default=[])
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--version", action="store_true")
    found, rest = parser.parse_known_intermixed_args(list(arguments))
    if unknown := [each for each in rest if each.startswith("-")]:
        options = ["--trust", "--cfg", "--help", "--version"]
        raise ConfigError(f"Unknown option {quoted(unknown[0])}.{did_you_mean(unknown[0], options)} See --help.")
    if found.help:
        return say(help_text())
    if found.version:
        return say(f"gradkit {gradkit.__version__}\n")
    for prefix in found.trust:
        if not all(part.isidentifier() for part in prefix.split(".")):
            raise ConfigError(f"--trust: expected a module such as pkg or pkg.module, got {quoted(prefix)}.")
    config, text = composed([*found.overrides, *rest])
    validate(config, found.trust)
    if found.cfg:
        return say(text)
    from gradkit.check.command.answer import run

    return run(config, found.trust)


def help_text() -> str:
    """The whole help, from the schema."""
    types = typing.get_type_hints(CheckConfig)
    lines = ["Targets"] + [f"  {name:<22}{text}" for name, text in TARGETS.items()]
    lines += ["", f"Keys (name, default; meaning); {', '.join(SWEPT)} take several values"]
    defaults = CheckConfig()
    for each in dataclasses.fields(CheckConfig):
        value = getattr(defaults, each.name)
        shown = (
            ",".join(map(str, value))
            if isinstance(value, list)
            else {"None": "null", "False": "false"}.get(str(value), value)
        )
        kind = range_in_words(each.metadata) or type_in_words(types[each.name])
        lines.append(f"  {each.name:<13}{shown!s:<24}{each.metadata['help']} ({kind})")
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n"


def composed(overrides: Sequence[str]) -> tuple[CheckConfig, str]:
    """The configuration from the YAML file and the arguments, typed, and as YAML.

    Raises:
        ConfigError: An argument that cannot be read, an unknown key or a value of the wrong type.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    ConfigStore.instance().store(group="schema", name="check", node=CheckConfig, provider="gradkit")
    values = _values(overrides)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(configs_folder())):
            cfg = compose("check")
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"configs/check.yaml: {str(error).partition(chr(10))[0]}") from error
    types = typing.get_type_hints(CheckConfig)
    for key, value in values.items():
        many = [value] if key in SWEPT and not isinstance(value, list) else value
        try:
            OmegaConf.update(cfg, key, many, merge=False)
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            limits = range_in_words(_metadata(key))
            kind = type_in_words(types[key]) + (f" ({limits})" if limits else "")
            raise ConfigError(f"{key}: expected {kind}, got {quoted(value)}.") from error
    made = OmegaConf.to_object(cfg)
    assert isinstance(made, CheckConfig)
    return made, OmegaConf.to_yaml(cfg)


def _metadata(key: str) -> Any:
    return next(each.metadata for each in dataclasses.fields(CheckConfig) if each.name == key)


def _values(overrides: Sequence[str]) -> dict[str, Any]:
    """The arguments as plain values; sweeps become lists."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString
    from hydra.errors import HydraException

    from gradkit.config.sweeps import count_arms

    parser = OverridesParser.create()
    keys = [each.name for each in dataclasses.fields(CheckConfig)]
    found: dict[str, Any] = {}
    for text in overrides:
        key = text.partition("=")[0]
        if "=" not in text:
            near = did_you_mean(text, [*(f"target={each}" for each in TARGETS), *(f"dtype={each}" for each in DTYPES)])
            raise ConfigError(f"{quoted(text)} is not KEY=VALUE.{near}")
        if key not in keys:
            raise ConfigError(f"Unknown key {quoted(key)}.{did_you_mean(key, keys)} The keys: {', '.join(keys)}.")
        if key in found:
            raise ConfigError(f"{key} is given twice; keep one, or separate values by commas.")
        if len(text) > 10_000:
            raise ConfigError(f"{key}: the argument has {len(text)} characters, at most 10000 can be read.")
        try:
            one = parser.parse_override(text)
            one.validate()
            if one.is_sweep_override():
                if key not in SWEPT:
                    raise ConfigError(f"{key} takes one value, got {quoted(text.partition('=')[2])}.")
                if count_arms([one]) > MOST_VALUES:
                    raise ConfigError(f"{key}: {quoted(text)} gives more than {MOST_VALUES} values.")
                swept = [each.text if isinstance(each, QuotedString) else each for each in one.sweep_iterator()]
                found[key] = swept
            else:
                found[key] = one.value()
        except (HydraException, ValueError, TypeError, AssertionError, RecursionError) as error:
            raise ConfigError(f"{quoted(text)} cannot be read: {str(error).partition(chr(10))[0]}.") from error
    return found


def validate(config: CheckConfig, trust: Sequence[str]) -> None:
    """Refuse what cannot be run, before torch is loaded.

    Raises:
        ConfigError: Names the key, what was expected and what came.
    """
    check_ranges(config)
    for name in SWEPT:
        if not getattr(config, name):
            raise ConfigError(f"{name}: expected at least one value, got none.")
    for target in config.target:
        if target in TARGETS:
            continue
        if "." not in target:
            raise ConfigError(
                f"target: unknown name {quoted(target)}.{did_you_mean(target, TARGETS)} Built in: {', '.join(TARGETS)};"
                " your own goes in as target=pkg.module.name --trust pkg"
            )
        check_path(target, trust, "target")
    kind, _, number = config.device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()) or (number and kind == "cpu"):
        raise ConfigError(f"device: expected cpu, cuda or cuda:N, got {quoted(config.device)}.")
    if config.order == 2 and config.methods == ["manual"]:
        raise ConfigError("order=2 checks reverse and forward mode; a gradient by hand has no second order here.")
    if config.chart is not None and not config.chart.endswith((".svg", ".png", ".html")):
        raise ConfigError(f"chart: expected a file ending in .svg, .png or .html, got {quoted(config.chart)}.")
    for key in ("json", "chart"):
        path = getattr(config, key)
        if path is not None and not os.path.isdir(os.path.dirname(path) or "."):  # noqa: PTH112, PTH120
            raise ConfigError(f"{key}: there is no folder {quoted(os.path.dirname(path))}.")  # noqa: PTH120
    if config.chart is not None:
        check_installed("chart")


if __name__ == "__main__":
    sys.exit(main())

"""What Hydra prints instead of running: the composed configuration, its sources, completions, its own help."""

from __future__ import annotations

import argparse
import contextlib
import copy
import io

from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from omegaconf import OmegaConf

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError
from gradkit.train.command.compose import CONFIG_NAME, chosen_schemas
from gradkit.train.command.explain import COMPOSING_ERRORS, explained
from gradkit.train.command.options import Options
from gradkit.train.command.overrides import apply_keys, check_groups, check_operators, check_sweeps, is_group, parse
from gradkit.train.command.plan import Planner, lines


def shown(hydra: Hydra, options: Options) -> str:
    """The text that `options.show` asks for.

    Raises:
        ConfigError: The overrides cannot be composed. Missing values and ranges are not looked at, so that a
            configuration can be printed before it is complete.
    """
    overrides = list(options.overrides)
    text = io.StringIO()
    if options.show in ("shell_completion", "hydra_help"):
        with contextlib.redirect_stdout(text):
            if options.show == "shell_completion":
                hydra.shell_completion(config_name=CONFIG_NAME, overrides=overrides)
            else:
                hydra.hydra_help(CONFIG_NAME, get_args_parser(), argparse.Namespace(hydra_help=True, overrides=[]))
        return text.getvalue()
    given = parse(overrides, hydra.config_loader)
    check_operators(given)
    if options.multirun and any(each.is_sweep_override() for each in given):
        raise ConfigError("-m runs several configurations, of which one is printed here; list them with --dry-run.")
    check_sweeps(given, multirun=False)
    check_groups(given, hydra.config_loader)
    planner = Planner(hydra, lines(each for each in given if each.is_hydra_override()))
    cfg = copy.deepcopy(planner.base(lines(each for each in given if is_group(each))))
    apply_keys(cfg, given, chosen_schemas(cfg))
    if options.package not in (None, "_global_") and OmegaConf.select(cfg, str(options.package)) is None:
        raise ConfigError(f"--package: there is no key {quoted(options.package)} in the configuration.")
    try:
        with contextlib.redirect_stdout(text):
            if options.show == "info":
                hydra.show_info(options.info, config_name=CONFIG_NAME, overrides=overrides)
            else:
                hydra.show_cfg(CONFIG_NAME, overrides, options.cfg, options.package, options.resolve)
    except COMPOSING_ERRORS as error:
        raise explained(error, overrides) from error
    return text.getvalue()

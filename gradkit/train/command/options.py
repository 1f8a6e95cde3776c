"""The options of `python -m gradkit.train` beside its `key=value` overrides; imports no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradkit.config.commands import Parser
from gradkit.config.wording import listed, quoted
from gradkit.errors import ConfigError, did_you_mean

OPTIONS: dict[str, str] = {
    "-m, --multirun": "run every combination of the values given as key=1,2 or key=range(1,4)",
    "--dry-run": "check everything, list what would run, and start nothing",
    "--trust PREFIX": "allow model.target and loss.target under this module; may be repeated",
    "--config-dir DIR": "a folder of your own YAML files, laid out like gradkit's configs/",
    "--cfg {job,hydra,all}": "print the composed configuration, with --resolve and --package KEY, and stop",
    "--info [WHAT]": "print Hydra's view: all, config, defaults, defaults-tree, plugins or searchpath",
    "--shell-completion": "install=SHELL or uninstall=SHELL: completion of the command gradkit-train",
    "--hydra-help": "print the help of Hydra itself",
    "-h, --help": "print this; --help model=mlp shows the keys of that choice",
    "--version": "print the version",
}
"""Every option and what it does, as `--help` prints them."""

REFUSED = {
    "--experimental-rerun": "it unpickles a file, which can run any code; use trainer.resume=FOLDER",
    "--config-path, -cp": "gradkit's own files are always read; add yours by --config-dir DIR",
    "--config-name, -cn": "gradkit's own train.yaml is always read; add a preset of yours by --config-dir DIR",
}
"""Options of Hydra that are not taken, and why."""


@dataclass(frozen=True)
class Options:
    """A command line, taken apart.

    Attributes:
        overrides: The `key=value` arguments in order.
        trust: Module prefixes.
        show: What to print instead of running: help, version, hydra_help, cfg, info or shell_completion; or None.
        multirun: `-m`.
        dry_run: `--dry-run`.
        cfg: The part for `--cfg`.
        resolve: `--resolve`.
        package: The key for `--package`.
        info: The word for `--info`.
        config_dir: The folder for `--config-dir`.
    """

    overrides: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    show: str | None = None
    multirun: bool = False
    dry_run: bool = False
    cfg: str = "job"
    resolve: bool = False
    package: str | None = None
    info: str = "all"
    config_dir: str | None = None


def read_options(arguments: Sequence[str]) -> Options:
    """Take a command line apart.

    Raises:
        ConfigError: An unknown option, one that lacks its value, or two that exclude each other.
    """
    for each in arguments:
        for refused, why in REFUSED.items():
            if each.partition("=")[0] in refused.split(", "):
                raise ConfigError(f"{refused} is not taken: {why}.")
    parser = _make_parser()
    found, rest = parser.parse_known_intermixed_args(list(arguments))
    # What argparse does not know, and every option that Hydra knows and gradkit does not take.
    if unknown := [each for each in rest if each.startswith("-")]:
        raise ConfigError(_unknown(unknown[0]))
    for prefix in found.trust:
        if not all(part.isidentifier() for part in prefix.split(".")):
            raise ConfigError(f"--trust: expected a module such as pkg or pkg.module, got {quoted(prefix)}.")
    shown = [
        name for name in ("help", "version", "hydra_help", "cfg", "info", "shell_completion") if getattr(found, name)
    ]
    if len(shown) > 1 and shown[0] not in ("help", "version"):
        raise ConfigError(f"Give one of {listed(f'--{name}' for name in shown)}.".replace("_", "-"))
    if found.run and found.multirun:
        raise ConfigError("--run and --multirun exclude each other.")
    if (found.resolve or found.package is not None) and "cfg" not in shown:
        raise ConfigError("--resolve and --package go with --cfg.")
    return Options(
        overrides=(*found.overrides, *rest),
        trust=tuple(found.trust),
        show=shown[0] if shown else None,
        multirun=found.multirun,
        dry_run=found.dry_run,
        cfg=found.cfg or "job",
        resolve=found.resolve,
        package=found.package,
        info=found.info or "all",
        config_dir=found.config_dir,
    )


def _make_parser() -> Parser:
    parser = Parser()
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--trust", action="append", default=[])
    for names in (
        ("--help", "-h"),
        ("--version",),
        ("--hydra-help",),
        ("--dry-run",),
        ("--run", "-r"),
        ("--multirun", "-m"),
        ("--resolve",),
        ("--shell-completion", "-sc"),
    ):
        parser.add_argument(*names, action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--package", "-p")
    parser.add_argument("--config-dir", "-cd")
    info = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=info)
    return parser


def _unknown(option: str) -> str:
    name = option.partition("=")[0]
    known = [word for names in OPTIONS for word in names.replace(",", "").split() if word.startswith("--")]
    near = did_you_mean(name, known)
    if "=" in option:
        near = f" Values are given without dashes: {option.lstrip('-')[:60]}."
    return f"Unknown option {quoted(option)}.{near} See --help."

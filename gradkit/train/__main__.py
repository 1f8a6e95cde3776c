"""`python -m gradkit.train`: reads the command line, checks everything, and only then loads torch and runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import gradkit
from gradkit.config.commands import answer, say
from gradkit.config.wording import one_line
from gradkit.errors import ConfigError, HygieneError, NothingKeptError
from gradkit.train.command.options import Options, read_options
from gradkit.train.running.signals import StopSignals

HALTED = 1
"""Exit status when `watch.halt_on` ended the run."""
KEPT_NOTHING = 4
"""Exit status of a run that was trained to its end and could write neither weights nor results."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: The arguments, without the program's name; by default those of the process.

    Returns:
        The exit status: 0, 1 when runs of a sweep failed, 2 for a mistake of the user's, 4 when nothing of the run
        could be kept, 130 after Ctrl-C.

    Raises:
        SystemExit: A signal ended the run.
    """
    return answer("gradkit.train", _answer, argv)


def _answer(arguments: Sequence[str]) -> int:
    try:
        return _run(read_options(arguments))
    except (HygieneError, NothingKeptError) as error:
        print(f"gradkit.train: {one_line(str(error))}", file=sys.stderr)
        return HALTED if isinstance(error, HygieneError) else KEPT_NOTHING


def _run(options: Options) -> int:
    if options.show == "help":
        from gradkit.config.folder import configs_folder
        from gradkit.train.command.usage import help_text

        return say(help_text(configs_folder(), options.overrides))
    if options.show == "version":
        return say(f"gradkit {gradkit.__version__}\n")
    check_python()
    # From here on, as it is composing that takes long: omegaconf turns a Ctrl-C that comes while it cleans up into an
    # error of its own.
    with StopSignals():
        return _plan_and_launch(options)


def _plan_and_launch(options: Options) -> int:
    from gradkit.train.command.compose import session
    from gradkit.train.command.plan import make_plan
    from gradkit.train.command.show import shown

    with session(options.config_dir) as hydra:
        if options.show is not None:
            return say(shown(hydra, options))
        rank = process_rank()
        plan = make_plan(hydra, options.overrides, multirun=options.multirun, trust=options.trust, rank=rank)
        if options.dry_run:
            return say(plan.in_words())
        from gradkit.train.command.launch import launch

        return launch(hydra, plan, options.trust, rank)


def check_python() -> None:
    """Refuse Python 3.14 with Hydra 1.3, which cannot start there.

    Python 3.14 reads the help text of every option as a string, and one of Hydra 1.3's is not one.

    Raises:
        ConfigError: Says what to install.
    """
    if sys.version_info >= (3, 14):
        from importlib import metadata  # 20 ms, which an answer on other versions does not wait for

        if metadata.version("hydra-core").startswith("1.3."):
            raise ConfigError(
                "Hydra 1.3 does not start on Python 3.14; run: pip install --pre 'hydra-core>=1.4.0rc3,<1.5'"
            )


def process_rank() -> int:
    """The rank of this process among those torchrun started, 0 without it."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() else 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line of the runner: its own options, then the script's, which are never looked at; imports no torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradkit.config.commands import Parser
from gradkit.errors import ConfigError, did_you_mean
from gradkit.settings import Settings, settings

HELP = """\
usage: python -m gradkit.run [options] script.py [arguments]
       python -m gradkit.run [options] -m module [arguments]

Runs a training script the way python does and reports what went wrong with its gradients, at your own lines. The
script, a folder or zip file with a __main__.py, or - for standard input, keeps its standard output and exit status.

Options
  --report FILE          write the report as JSON
  --sarif FILE           write the report as SARIF 2.1.0, for code scanning
  --html FILE            write the report as a page that opens offline, with the source around each finding
  --format FORMAT        text (default), or github: annotations of GitHub Actions
  --select CODES         run only these rules: GK101, or GK1 for all of 1xx; commas between several
  --ignore CODES         leave these rules out
  --show LEVEL           warnings (default) and worse in full, or notes as well
  --fail-on SEVERITY     exit with 1 if the script succeeds with a finding of at least: error, warning; default never
  --halt-on WHAT         raise gradkit.HygieneError in the step that shows: error, warning, note, or rule codes
  --accumulate N         micro-batches per optimizer step that you intend
  --frozen PATTERNS      parameters that are meant to stay as they are, such as 'backbone.*'
  --baseline FILE        do not report again what this file lists
  --write-baseline       write what this run finds to the --baseline file
  --deep                 measure every step: norms, share of stale gradient, cosine; slower
  -h, --help             print this
  --version              print the version

The same keys, without dashes before them, can stand in [tool.gradkit] of pyproject.toml. A line with the comment
`# gradkit: ignore[GK201]` is not reported for that rule. `python -m gradkit.explain GK101` explains a rule.
Exit status: the script's own; 1 by --fail-on; 2 for a mistake on this command line; 3 when the script could not be
started by a fault of gradkit.
"""

_LISTS = ("select", "ignore", "frozen", "halt-on")
_VALUES = ("report", "sarif", "html", "format", "fail-on", "accumulate", "baseline", "show")
_SWITCHES = ("write-baseline", "deep")
OPTIONS = (*(f"--{name}" for name in (*_LISTS, *_VALUES, *_SWITCHES)), "-m", "--help", "--version")


@dataclass(frozen=True)
class Command:
    """A command line that was understood.

    Attributes:
        settings: What is asked of gradkit.
        target: The script, folder or zip file, `-`, or the module's name.
        is_module: Whether `target` is a module.
        arguments: What the script sees after its own name.
        own: How many arguments of the whole line were gradkit's.
    """

    settings: Settings
    target: str
    is_module: bool
    arguments: tuple[str, ...]
    own: int


def parse(argv: Sequence[str]) -> Command | str:
    """Read a command line.

    Args:
        argv: The arguments without the program's name.

    Returns:
        The command, or the text that `--help` or `--version` asks for.

    Raises:
        ConfigError: An option is unknown, lacks its value, or no script is named.
    """
    parser = Parser()
    for name in _LISTS:
        parser.add_argument(f"--{name}", action="append")
    for name in _VALUES:
        parser.add_argument(f"--{name}")
    for name in _SWITCHES:
        parser.add_argument(f"--{name}", action="store_true", default=None)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    found, unknown = parser.parse_known_args(list(argv))
    if unknown:
        word = unknown[0]
        raise ConfigError(f"Unknown option {word!r}.{did_you_mean(word.partition('=')[0], OPTIONS)} See --help.")
    if found.help:
        return HELP
    if found.version:
        import gradkit

        return f"gradkit {gradkit.__version__}\n"
    line = found.module if found.module is not None else found.command
    if line[:1] == ["--"]:
        line = line[1:]
    if not line:
        wanted = "a module after -m" if found.module is not None else "a script, a folder or -m module"
        raise ConfigError(f"Name {wanted} to run. See --help.")
    given: dict[str, Any] = {
        name: value
        for name in (*_LISTS, *_VALUES, *_SWITCHES)
        if (value := getattr(found, name.replace("-", "_"))) is not None
    }
    return Command(settings(given), line[0], found.module is not None, tuple(line[1:]), len(argv) - len(line))

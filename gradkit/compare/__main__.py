"""`python -m gradkit.compare`: reads the command line, compares the runs it names, prints or writes the comparison."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import gradkit
from gradkit.config.commands import Parser, answer, say
from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, RunFolderError, did_you_mean
from gradkit.store import write_atomically

OPTIONS = ("--by", "--reference", "--metric", "--best", "--json", "--csv", "--html", "--help", "--version")

HELP = """\
usage: python -m gradkit.compare [options] RUN ...

Compares training runs: what differs in their configurations, metrics with paired differences over seeds, findings.
RUN is a run folder, a folder with many (such as that of a sweep), or a glob in quotes.

  python -m gradkit.compare multirun/2026-11-23/10-15-00-1a2b3c4d
  python -m gradkit.compare 'outputs/*/*' --by optimizer.lr --metric 'test.*'
  python -m gradkit.compare outputs/a outputs/b --html comparison.html
  python -m gradkit.compare outputs/a --html run.html                    one run: its own report

Options
  --by KEY         form arms by this key alone and pair runs by seed and all other keys; may be repeated
  --reference RUN  compare with the arm of this run; by default the first without a fault
  --metric NAME    show these metrics, such as 'validation.*'; may be repeated
  --best N         list this many best runs per metric (default 3)
  --json FILE      write everything as JSON; - is standard output
  --csv FILE       write one line per run; - is standard output
  --html FILE      write a report that opens offline (needs gradkit[report])
  -h, --help       print this
  --version        print the version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: The arguments, without the program's name; by default those of the process.

    Returns:
        The exit status: 0, 2 for a mistake of the user's or when no run could be read, 130 after Ctrl-C.
    """
    return answer("gradkit.compare", _run, argv)


def _run(arguments: Sequence[str]) -> int:
    parser = Parser()
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--by", action="append", default=[])
    parser.add_argument("--reference")
    parser.add_argument("--metric", action="append", default=[])
    parser.add_argument("--best", default="3")
    for name in ("--json", "--csv", "--html"):
        parser.add_argument(name)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--version", action="store_true")
    found, rest = parser.parse_known_intermixed_args(list(arguments))
    if rest:
        raise ConfigError(f"Unknown option {quoted(rest[0])}.{did_you_mean(rest[0], OPTIONS)} See --help.")
    if found.help or found.version:
        return say(HELP if found.help else f"gradkit {gradkit.__version__}\n")
    _check(found)
    return _compare(found)


def _check(found: argparse.Namespace) -> None:
    if not found.runs:
        raise ConfigError("Name at least one run folder, a folder with runs, or a glob. See --help.")
    if not found.best.isdecimal():
        raise ConfigError(f"--best: expected a whole number, got {quoted(found.best)}.")
    if found.json == "-" and found.csv == "-":
        raise ConfigError("--json - and --csv - cannot share standard output; write one of them to a file.")
    for name in ("json", "csv", "html"):
        path = getattr(found, name)
        if path not in (None, "-") and not Path(path).absolute().parent.is_dir():
            raise ConfigError(f"--{name}: there is no folder {quoted(str(Path(path).parent))}.")
    if found.html == "-":
        raise ConfigError("--html: expected a file, got '-'.")
    if found.html is not None:
        from gradkit.report.charts import check_installed

        check_installed("--html")


def _compare(found: argparse.Namespace) -> int:
    from gradkit.compare.comparison import compare
    from gradkit.runs.folders import load_runs

    runs, skipped = load_runs(found.runs)
    reference = None
    if found.reference is not None:
        named, problems = load_runs([found.reference])
        if len(named) != 1:
            reason = f"it holds {len(named)} runs" if named else problems[0].reason.rstrip(".")
            raise RunFolderError(f"--reference: expected one run folder, got {quoted(found.reference)}: {reason}.")
        reference = named[0]
        if all(run.folder.resolve() != reference.folder.resolve() for run in runs):
            runs, skipped = load_runs([found.reference, *found.runs])
    if not runs:
        listed = "; ".join(f"{each.path}: {each.reason.rstrip('.')}." for each in skipped[:3])
        raise RunFolderError(f"No run could be read. {listed}")
    by = [key for each in found.by for key in each.split(",")]
    comparison = compare(runs, skipped=skipped, by=by, reference=reference, metrics=found.metric)
    best = int(found.best)
    if "-" not in (found.json, found.csv):
        from gradkit.compare.text import parts
        from gradkit.config.console import CommandConsole

        console = CommandConsole(highlight=False, soft_wrap=False)
        for part in parts(comparison, best=best):
            console.print(part)
    from gradkit.compare.tables import csv_text, json_text

    if found.json is not None:
        _write("--json", found.json, json_text(comparison, best=best))
    if found.csv is not None:
        _write("--csv", found.csv, csv_text(comparison))
    if found.html is not None:
        from gradkit.compare.pages import comparison_page, run_page

        page = run_page(runs[0]) if len(runs) == 1 else comparison_page(comparison, best=best)
        _write("--html", found.html, page)
    return 0


def _write(option: str, path: str, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        write_atomically(Path(path), data)
    except OSError as error:
        raise ConfigError(f"{option}: cannot write {quoted(path)}: {error.strerror or error}.") from None


if __name__ == "__main__":
    sys.exit(main())

"""`python -m gradkit.experiment`: runs what an experiment is missing, judges its claims and writes its results."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gradkit
from gradkit.config.commands import Parser, answer, say
from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from gradkit.experiment.results import Results
    from gradkit.experiment.runner import PlannedRun
    from gradkit.experiment.schema import Experiment

CLAIM_FAILED = 1
OPTIONS = ("--list", "--fresh", "--quick", "--dry-run", "--out", "--launcher", "--no-report", "--help", "--version")
OUT = Path("outputs") / "experiments"

HELP = """\
usage: python -m gradkit.experiment [options] NAME|FOLDER [key=value ...]

Runs the arms and seeds of an experiment that are not there yet, judges its claims, and writes results.json, figures
and report.html. What is interrupted goes on where it was when it is started again.

  python -m gradkit.experiment --list                     the experiments that come with gradkit
  python -m gradkit.experiment unzeroed --quick           fewer and shorter runs, with claims of their own
  python -m gradkit.experiment unzeroed --dry-run         what would be run
  python -m gradkit.experiment my/folder trainer.epochs=5 one of your own; settings for every arm
  python -m gradkit.experiment unzeroed --launcher joblib the seeds of an arm at the same time

Options
  --list             list gradkit's experiments
  --quick            the experiment's quick settings
  --fresh            run everything again
  --dry-run          say what would be run and stop
  --out FOLDER       where runs and results go (default outputs/experiments/NAME)
  --launcher NAME    start training runs through this launcher of Hydra's
  --no-report        write results.json only; needs no gradkit[report]
  -h, --help         print this
  --version          print the version

Exit status: 0 when every claim holds, 1 when one does not or a run failed, 2 for a mistake on the command line.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: The arguments, without the program's name; by default those of the process.

    Returns:
        The exit status: 0, 1 for a claim that does not hold or a failed run, 2 for a mistake of the user's, 130 after
        Ctrl-C.

    Raises:
        SystemExit: A signal ended a run.
    """
    return answer("gradkit.experiment", _run, argv, interrupted="interrupted; start it again to go on")


def _run(arguments: Sequence[str]) -> int:
    parser = Parser()
    parser.add_argument("words", nargs="*")
    for name in ("--list", "--fresh", "--quick", "--dry-run", "--no-report", "--version"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--out")
    parser.add_argument("--launcher")
    found, rest = parser.parse_known_intermixed_args(list(arguments))
    if unknown := [each for each in rest if each.startswith("-")]:
        raise ConfigError(f"Unknown option {quoted(unknown[0])}.{did_you_mean(unknown[0], OPTIONS)} See --help.")
    if found.help or found.version:
        return say(HELP if found.help else f"gradkit {gradkit.__version__}\n")
    from gradkit.experiment.locate import find

    if found.list:
        return _list()
    words = [*found.words, *rest]
    if not words:
        raise ConfigError("Name an experiment, or a folder with an experiment.yaml; --list shows gradkit's own.")
    for word in words[1:]:
        if "=" not in word:
            raise ConfigError(f"{quoted(word)} is not KEY=VALUE; only one experiment is run at a time.")
        if word.partition("=")[0].lstrip("+~") in ("seed", "trainer.seed"):
            raise ConfigError(
                f"{quoted(word)}: every arm runs with the seeds of the experiment's file; change them there."
            )
    folder = find(words[0])
    if not found.no_report and not found.dry_run:
        from gradkit.report.charts import check_installed

        check_installed("The report (leave it out with --no-report)")
    from gradkit.experiment.reading import read_experiment

    experiment = read_experiment(folder, quick=found.quick, overrides=words[1:])
    out = Path(found.out) if found.out is not None else OUT / experiment.name
    return _experiment(experiment, out, found)


def _list() -> int:
    from gradkit.experiment.locate import shipped
    from gradkit.experiment.reading import read_experiment

    for name, folder in shipped().items():
        experiment = read_experiment(folder)
        runs = len(experiment.arms) * len(experiment.seeds)
        print(f"{name}: {len(experiment.arms)} arms, {runs} runs, {len(experiment.claims)} claims")
        print(f"  {' '.join(experiment.question.split())}")
    return 0


def _experiment(experiment: Experiment, out: Path, found: argparse.Namespace) -> int:
    from gradkit.experiment.results import collect
    from gradkit.experiment.runner import forget, plan, run_missing

    planned = plan(experiment, out / "runs")
    missing = [run for run in planned if not run.done]
    if found.dry_run:
        return _dry(experiment, planned, fresh=found.fresh)
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: cannot make the folder {quoted(str(out))}: {error.strerror}.") from None
    if found.fresh:
        forget(planned)
        missing = planned
    print(f"{experiment.name}: {' '.join(experiment.question.split())}")
    print(f"{len(planned)} runs of {len(experiment.arms)} arms, {len(missing)} to do", flush=True)
    started = time.perf_counter()

    def say(number: int, count: int, run: PlannedRun) -> None:
        seconds = time.perf_counter() - started
        left = f", some {seconds / (number - 1) * (count - number + 1):.0f} s left" if number > 3 else ""
        print(f"  {number} of {count}: {run.arm.name}, seed {run.seed}{left}", flush=True)

    launcher = [f"hydra/launcher={found.launcher}"] if found.launcher else []
    failures = run_missing(planned, say, launcher=launcher)
    results = collect(experiment, planned, failures, time.perf_counter() - started, len(missing))
    _write(results, out / ("quick" if experiment.quick else "results"), report=not found.no_report)
    return _verdict(results)


def _dry(experiment: Experiment, planned: Sequence[PlannedRun], *, fresh: bool) -> int:
    done = sum(run.done for run in planned) if not fresh else 0
    print(f"{experiment.name}: {len(planned)} runs, {done} done, {len(planned) - done} to do; nothing was started.")
    for run in planned:
        state = "done" if run.done and not fresh else "to do"
        print(f"  {state:<5}  {run.arm.name}, seed {run.seed}: {run.arm.program} {' '.join(run.arm.overrides)}")
    return 0


def _write(results: Results, folder: Path, *, report: bool) -> None:
    from gradkit.experiment.results import json_text
    from gradkit.store import write_atomically

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "results.json", json_text(results).encode())
        if report:
            from gradkit.experiment.figures import draw
            from gradkit.report import charts

            for name, specification in draw(results).items():
                write_atomically(folder / f"{name}.png", charts.png(specification))
                write_atomically(folder / f"{name}.svg", charts.svg(specification).encode())
            from gradkit.experiment.page import experiment_page

            write_atomically(folder / "report.html", experiment_page(results).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ConfigError(f"--out: cannot write into {quoted(str(folder))}: {error.strerror or error}.") from None
    print(f"written: {folder}")


def _verdict(results: Results) -> int:
    from gradkit.config.console import CommandConsole
    from gradkit.experiment.text import parts

    console = CommandConsole(highlight=False)
    for part in parts(results):
        console.print(part)
    return 0 if results.holds and not results.failures else CLAIM_FAILED


if __name__ == "__main__":
    sys.exit(main())

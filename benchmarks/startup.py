"""Seconds that the command lines take before and after the work they are for.

What `python -m gradkit.run` adds to a script, an empty one and one that trains and ends with a finding, and what
`gradkit.train` and `gradkit.check` take to answer without doing anything. Processor time of whole processes, which
other work on the machine stretches less than time on the clock; watched and unwatched take turns, and medians are
reported.

    python benchmarks/startup.py                 about two minutes

The result is written to benchmarks/results/startup.json, with the machine and the versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ADDED_SECONDS = 0.3
ANSWER_SECONDS = 0.7
STALE = """\
import torch
from torch import nn
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for i in range(4):
    model(torch.randn(8, 3)).pow(2).mean().backward()
    optimizer.step()
"""
SCRIPTS = {"an empty script": "", "a script with a finding": STALE}
ANSWERS = {
    "gradkit.train answers with help": ["gradkit.train", "--help"],
    "gradkit.train answers with a mistake": ["gradkit.train", "optimizer.lr=nan"],
    "gradkit.train answers with the configuration": ["gradkit.train", "--cfg", "job"],
    "gradkit.check answers with help": ["gradkit.check", "--help"],
    "gradkit.check answers with a mistake": ["gradkit.check", "target=logistc"],
}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)


def processor_seconds(*arguments: str, folder: Path, status: int = 0) -> float:
    """Processor time of `python ARGUMENTS` and its children, to its end [s]."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != status:
        raise SystemExit(f"python {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def added_by_the_runner(text: str, folder: Path, rounds: int) -> dict[str, float]:
    """What `python -m gradkit.run` adds to a script, medians of `rounds` pairs [s]; one uncounted pair first."""
    (folder / "script.py").write_text(text)
    pairs = []
    for index in range(rounds + 1):
        commands = [("script.py",), ("-m", "gradkit.run", "script.py")]
        took = {command: processor_seconds(*command, folder=folder) for command in commands[:: 1 if index % 2 else -1]}
        pairs.append(tuple(took[command] for command in commands))
    bare, watched = (list(column) for column in zip(*pairs[1:], strict=True))
    return {
        "seconds": round(statistics.median(seen - alone for alone, seen in zip(bare, watched, strict=True)), 3),
        "bare_seconds": round(statistics.median(bare), 3),
    }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "startup.json")
    arguments = parser.parse_args()
    rows: list[dict[str, str | float]] = []

    def note(what: str, figures: dict[str, float], allowed: float) -> None:
        rows.append({"what": what, "budget": f"at most {allowed}", **figures})
        print(f"{what:<60} {figures['seconds']:.3f} s  (at most {allowed})", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, text in SCRIPTS.items():
            note(f"gradkit.run adds to {name}", added_by_the_runner(text, folder, arguments.rounds), ADDED_SECONDS)
        for name, command in ANSWERS.items():
            status = 2 if name.endswith("mistake") else 0
            took = [
                processor_seconds("-m", *command, folder=folder, status=status) for _ in range(arguments.rounds + 1)
            ]
            note(name, {"seconds": round(statistics.median(took[1:]), 3)}, ANSWER_SECONDS)
    result = {
        "command": "python benchmarks/startup.py",
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "versions": {"python": platform.python_version()},
        "rounds": arguments.rounds,
        "rows": rows,
    }
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()

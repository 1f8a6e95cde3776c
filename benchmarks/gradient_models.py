"""`gradkit.check.module` on whole models: evaluations, seconds and the smallest relative error it would have seen.

    python benchmarks/gradient_models.py

The models stand in tests/check/whole_models.py; the multilayer perceptron has a million parameters. The budget is 60
evaluations of the model and 10 seconds on two cores. The result is written to
benchmarks/results/gradient_models.json.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from gradkit.check import module
from tests.check.whole_models import cross_entropy, models

RESULT = Path(__file__).parent / "results" / "gradient_models.json"
BUDGET = {"evaluations": 60, "seconds": 10.0}


def main() -> None:
    """Check every model, print a line for each, write the result."""
    rows: list[dict[str, Any]] = []
    for name, (model, batch) in models().items():
        begun = time.perf_counter()
        result = module(model, cross_entropy, batch)
        seconds = time.perf_counter() - begun
        rows.append(
            {
                "model": name,
                "parameters": result.settings["parameters"],
                "verdict": result.verdict,
                "evaluations": result.settings["evaluations"],
                "seconds": round(seconds, 2),
            }
        )
        print(
            "{model:<12} {parameters:>9,} parameters  {verdict}  {evaluations} evaluations  {seconds} s".format(
                **rows[-1]
            )
        )
    document = {
        "command": "python benchmarks/gradient_models.py",
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "budget": BUDGET,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

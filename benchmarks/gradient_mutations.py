"""How many wrong backward passes a gradient check finds, and how many right ones it fails: gradkit beside gradcheck.

Twenty right backward passes and six mutants of each (tests/check/mutants.py), eight of them equivalent, at three
points. gradcheck runs with its defaults (atol 1e-5, rtol 1e-3), in float64 as it is meant to be and in float32 as
people try it, there with the eps of 1e-3 its users are told to take.

    python benchmarks/gradient_mutations.py

The result is written to benchmarks/results/gradient_mutations.json.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.table import Table

from gradkit.check import gradients
from tests.check.mutants import SUBJECTS, Backward, Subject

POINTS = 3
RESULT = Path(__file__).parent / "results" / "gradient_mutations.json"
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def by_gradkit(subject: Subject, backward: Backward, dtype: torch.dtype, seed: int) -> str:
    """The verdict: pass, fail or inconclusive."""
    custom = subject.function(backward)
    return gradients(
        lambda *x: custom.apply(*x), subject.point(seed), dtype=dtype, methods=("reverse",), cotangent="random"
    ).verdict


def by_gradcheck(subject: Subject, backward: Backward, dtype: torch.dtype, seed: int) -> str:
    """The verdict: pass or fail."""
    custom = subject.function(backward)
    point = tuple(each.to(dtype).requires_grad_() for each in subject.point(seed))
    settings = {} if dtype is torch.float64 else {"eps": 1e-3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        passed = torch.autograd.gradcheck(
            lambda *x: custom.apply(*x), point, raise_exception=False, check_undefined_grad=False, **settings
        )
    return "pass" if passed else "fail"


def score(check: Any, dtype: torch.dtype) -> dict[str, Any]:
    """Counts over all subjects, mutants and points."""
    begun = time.perf_counter()
    found = {"mutants": 0, "detected": 0, "right": 0, "false_failures": 0, "right_inconclusive": 0, "missed": []}
    for subject in SUBJECTS:
        for seed in range(1, POINTS + 1):
            right = [("right", subject.backward)] + [(name, subject.mutants[name]) for name in subject.equivalent]
            for _, backward in right:
                verdict = check(subject, backward, dtype, seed)
                found["right"] += 1
                found["false_failures"] += verdict == "fail"
                found["right_inconclusive"] += verdict == "inconclusive"
            for name, backward in subject.mutants.items():
                if name in subject.equivalent:
                    continue
                found["mutants"] += 1
                if check(subject, backward, dtype, seed) == "fail":
                    found["detected"] += 1
                elif f"{subject.name}: {name}" not in found["missed"]:
                    found["missed"].append(f"{subject.name}: {name}")
    found["seconds"] = round(time.perf_counter() - begun, 1)
    return found


def main() -> None:
    """Score both checkers in every dtype, print and write the result."""
    checks = [("gradkit", by_gradkit, name) for name in DTYPES]
    checks += [("gradcheck", by_gradcheck, name) for name in ("float64", "float32")]
    scores = {f"{tool} {name}": score(check, DTYPES[name]) for tool, check, name in checks}
    table = Table(title=f"{len(SUBJECTS)} backward passes, 112 mutants and 8 equivalent ones, {POINTS} points each")
    for column in ("checker", "detected", "false failures", "inconclusive", "seconds", "missed"):
        table.add_column(column, overflow="fold")
    for name, each in scores.items():
        table.add_row(
            name,
            f"{each['detected']}/{each['mutants']}",
            f"{each['false_failures']}/{each['right']}",
            str(each["right_inconclusive"]),
            str(each["seconds"]),
            "; ".join(each["missed"]),
        )
    Console().print(table)
    equivalent = {f"{each.name}: {name}": why for each in SUBJECTS for name, why in each.equivalent.items()}
    document = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "points": POINTS,
        "equivalent": equivalent,
        "scores": scores,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

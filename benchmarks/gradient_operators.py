"""Every differentiable operator of PyTorch's database: gradkit's verdicts in float64 and float32 beside gradcheck's.

One sample per operator (tests/check/operators.py says which). gradcheck runs in float64 with its defaults.

    python benchmarks/gradient_operators.py         all of them, about three minutes

The result, with the reason for every difference, is written to benchmarks/results/gradient_operators.json.
"""

from __future__ import annotations

import collections
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

from gradkit.check import CheckInputError, gradients
from tests.check.operators import (
    EXPLAINED,
    INCONCLUSIVE,
    LOST_IN_FLOAT32,
    Operator,
    by_gradcheck,
    differentiable_operators,
    operator_of,
)

RESULT = Path(__file__).parent / "results" / "gradient_operators.json"


def verdict(operator: Operator, dtype: torch.dtype) -> str:
    """The verdict, or refused."""
    try:
        return gradients(operator.fn, operator.inputs, dtype=dtype, cotangent="random", methods=("reverse",)).verdict
    except CheckInputError:
        return "refused"


def main() -> None:
    """Compare all operators, print the differences, write the result."""
    warnings.simplefilter("ignore")
    begun, rows, without = time.perf_counter(), [], []
    for entry in differentiable_operators():
        operator = operator_of(entry)
        if operator is None:
            without.append(entry.formatted_name)
            continue
        row: dict[str, Any] = {"operator": operator.name, "gradcheck": by_gradcheck(operator)}
        row["float64"], row["float32"] = verdict(operator, torch.float64), verdict(operator, torch.float32)
        rows.append(row)
    differing = [
        row for row in rows if row["gradcheck"] is not (row["float64"] == "pass") or row["float32"] != row["float64"]
    ]
    reasons = {**EXPLAINED, **INCONCLUSIVE, **LOST_IN_FLOAT32}
    for row in differing:
        row["reason"] = reasons.get(row["operator"], "")
    console = Console()
    counts = collections.Counter(f"gradcheck {row['gradcheck']}, {row['float64']}, {row['float32']}" for row in rows)
    console.print(f"{len(rows)} operators; {len(without)} without a strided float64 sample: {', '.join(without)}")
    for kind, count in counts.most_common():
        console.print(f"{count:5d}  {kind} (float64, float32)")
    for row in differing:
        console.print(
            f"  {row['operator']}: gradcheck {row['gradcheck']}, {row['float64']}, {row['float32']}: {row['reason']}"
        )
    document = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seconds": round(time.perf_counter() - begun, 1),
        "counts": counts,
        "without_sample": without,
        "differing": differing,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Whether right code is ever blamed and wrong code ever passed: gradkit beside torch.autograd.gradcheck, in one table.

Backward passes: the twenty of tests/check/mutants.py with six mutants of each, and those of tests/check/foreign.py,
each in the dtype it is made for. Models: the sixty of tests/check/model_zoo.py in float32 and training mode, with
gradient checkpointing off, on, and reentrant. gradcheck runs with its defaults in float64, as its documentation asks,
on models in its fast mode, with the seed set before every call so that dropout repeats; whatever it raises for a
reason of its own is counted apart.

    python benchmarks/gradient_verdicts.py             all of it, ten minutes on two free cores
    python benchmarks/gradient_verdicts.py passes      the backward passes alone
    python benchmarks/gradient_verdicts.py models      the models alone

The result is written to benchmarks/results/gradient_verdicts.json, after each row.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.table import Table
from torch.autograd.gradcheck import GradcheckError

from gradkit.check import CheckInputError, function, module
from tests.check.foreign import FOREIGN
from tests.check.model_zoo import cases
from tests.check.mutants import SUBJECTS

RESULT = Path(__file__).parent / "results" / "gradient_verdicts.json"
COUNTED = ("pass", "fail", "inconclusive", "refused")


def verdict_of(check: Callable[[], Any]) -> tuple[str, str]:
    """Gradkit's verdict and, where it is no pass, why."""
    try:
        result = check()
    except CheckInputError as error:
        return "refused", str(error)
    line = next((each for each in result if each.verdict == result.verdict), None)
    return result.verdict, "" if result.ok or line is None else f"{line.subject}: {line.reason}"


def by_gradcheck(fn: Callable[..., Any], inputs: tuple[Any, ...], *, fast: bool) -> tuple[str, str]:
    """Gradcheck's verdict, or refused when it could not compare."""
    try:
        torch.autograd.gradcheck(fn, inputs, fast_mode=fast, check_undefined_grad=False)
    except GradcheckError as error:
        return "fail", str(error).strip().partition("\n")[0]
    except Exception as error:
        return "refused", f"{type(error).__name__}: {str(error).strip()[:150]}"
    return "pass", ""


def passes() -> Iterator[dict[str, Any]]:
    """A row for each backward pass."""
    found: list[tuple[str, bool, Any, tuple[Any, ...], Any]] = []
    for subject in SUBJECTS:
        point = tuple(each.float() for each in subject.point(1))
        found.append((subject.name, True, subject.function(subject.backward), point, None))
        for name, backward in subject.mutants.items():
            right = name in subject.equivalent
            found.append((f"{subject.name}: {name}", right, subject.function(backward), point, None))
    found += [(each.name, each.right, each.function, each.inputs, each.reference) for each in FOREIGN]
    for name, right, custom, point, reference in found:
        ours, why = verdict_of(
            lambda custom=custom, point=point, reference=reference: function(
                custom, point, order=1, reference=reference
            )
        )
        exact = tuple(each.double().requires_grad_() for each in point)
        theirs, its_why = by_gradcheck(lambda *x, custom=custom: custom.apply(*x), exact, fast=False)
        yield row("backward pass", name, right, ours, why, theirs, its_why)


def models() -> Iterator[dict[str, Any]]:
    """A row for each model check."""
    for case in cases():
        model, loss, batch = case.make()
        ours, why = verdict_of(lambda model=model, loss=loss, batch=batch: module(model, loss, batch))
        theirs, its_why = _model_by_gradcheck(*case.make())
        yield row("model", case.name, case.right, ours, why, theirs, its_why)


def _model_by_gradcheck(model: Any, loss: Any, batch: Any) -> tuple[str, str]:
    model = model.double()
    names = [name for name, each in model.named_parameters() if each.requires_grad]
    values = tuple(dict(model.named_parameters())[name].detach().clone().requires_grad_() for name in names)
    exact = torch.utils._pytree.tree_map(
        lambda each: each.double() if isinstance(each, torch.Tensor) and each.is_floating_point() else each, batch
    )

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: Any) -> Any:
            return loss(self.model, batch)

    whole = Whole()

    def of_parameters(*parameters: Any) -> Any:
        torch.manual_seed(0)
        buffers = {f"model.{name}": each.clone() for name, each in model.named_buffers()}
        state = {f"model.{name}": each for name, each in zip(names, parameters, strict=True)}
        return torch.func.functional_call(whole, {**state, **buffers}, (exact,))

    return by_gradcheck(of_parameters, values, fast=True)


def row(kind: str, name: str, right: bool, ours: str, why: str, theirs: str, its_why: str) -> dict[str, Any]:
    """One row, plain data."""
    return {
        "kind": kind,
        "name": name,
        "right": right,
        "gradkit": ours,
        "gradkit_why": why[:300],
        "gradcheck": theirs,
        "gradcheck_why": its_why[:300],
    }


def table(rows: list[dict[str, Any]]) -> Table:
    """How often each checker gave which verdict, of right and of wrong code."""
    made = Table(title="Verdicts on right and wrong gradients", title_justify="left")
    for column in ("", "code", "checker", *COUNTED):
        made.add_column(column, justify="right" if column in COUNTED else "left")
    for kind in ("backward pass", "model"):
        for right in (True, False):
            own = [each for each in rows if each["kind"] == kind and each["right"] is right]
            for tool in ("gradkit", "gradcheck"):
                counts = Counter(each[tool] for each in own)
                said = [str(counts[each]) for each in COUNTED]
                made.add_row(kind, f"{len(own)} {'right' if right else 'wrong'}", tool, *said)
    return made


def main(which: str = "") -> None:
    """Check all, print the table, write the rows."""
    warnings.simplefilter("ignore")
    kinds = {"passes": ("backward pass", passes), "models": ("model", models)}
    chosen = {which: kinds[which]} if which else kinds
    redone = {kind for kind, _ in chosen.values()}
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if RESULT.exists() else []
    rows = [each for each in kept if each["kind"] not in redone]
    begun = time.perf_counter()
    for _, make in chosen.values():
        for each in make():
            rows.append(each)
            _write(rows, time.perf_counter() - begun)
            off = each["gradkit"] == ("fail" if each["right"] else "pass")
            print(f"{'!' if off else ' '} {each['name']:<44} {each['gradkit']:<13} {each['gradcheck']}", flush=True)
    Console().print(table(rows))


def _write(rows: list[dict[str, Any]], seconds: float) -> None:
    document = {
        "command": "python benchmarks/gradient_verdicts.py",
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seconds": round(seconds, 1),
        "rows": rows,
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

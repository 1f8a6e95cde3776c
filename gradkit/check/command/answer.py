"""What `python -m gradkit.check` does once its configuration is known to be sound: compare, print, write."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

import gradkit
from gradkit.check.command.schema import TARGETS, CheckConfig
from gradkit.check.command.targets import BUILT_IN, Target, from_user
from gradkit.check.engine.devices import against_cpu
from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.gradients import gradients
from gradkit.check.engine.result import COLOURS, ORDER, CheckResult, Line, Verdict, shown
from gradkit.config.console import CommandConsole
from gradkit.config.trust import import_trusted
from gradkit.errors import ConfigError


@dataclass(frozen=True)
class Case:
    """One combination of target, dtype and scale, with its result."""

    target: str
    dtype: str
    scale: float
    result: CheckResult


def run(config: CheckConfig, trust: Sequence[str]) -> int:
    """Compare everything, print the tables, write the files asked for.

    Returns:
        0, or 1 for a verdict at or above `fail_on`.

    Raises:
        ConfigError: No such device, or a target that cannot be imported.
        CheckInputError: A target of the user's that cannot be checked.
    """
    device = _device(config.device)
    makers = {name: _maker(name, trust) for name in config.target}
    cases = [
        Case(name, dtype, scale, _examined(makers[name](scale), name, dtype, scale, device, config))
        for name in config.target
        for dtype in config.dtype
        for scale in config.scale
    ]
    console = CommandConsole()
    if len(cases) == 1 or config.details:
        for case in cases:
            console.print(case.result)
    if len(cases) > 1:
        console.print(summary(cases))
    if len(config.scale) > 1:
        console.print(digits(cases, config))
    if config.json is not None:
        _write_json(cases, config, Path(config.json))
    if config.chart is not None:
        from gradkit.check.command.chart import write_chart

        write_chart(rows(cases), Path(config.chart))
    worst = max((case.result.verdict for case in cases), key=lambda each: ORDER[each])
    limit: dict[str, Verdict] = {"fail": "fail", "inconclusive": "inconclusive"}
    return int(config.fail_on in limit and ORDER[worst] >= ORDER[limit[config.fail_on]])


def _device(name: str) -> torch.device:
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise ConfigError(f"device={name}: torch sees no CUDA device here; use device=cpu.")
        number = int(name.partition(":")[2] or 0)
        if number >= torch.cuda.device_count():
            raise ConfigError(f"device={name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0.")
    return torch.device(name)


def _maker(name: str, trust: Sequence[str]) -> Any:
    if name in TARGETS:
        return BUILT_IN[name]
    found = import_trusted(name, trust, "target")

    def make(scale: float) -> Target:
        try:
            made = found(scale)
        except TypeError as error:
            raise CheckInputError(f"target={name}: calling it with the scale failed: {error}.") from error
        return from_user(made, name)

    return make


def _examined(
    target: Target, name: str, dtype: str, scale: float, device: torch.device, config: CheckConfig
) -> CheckResult:
    settings: dict[str, Any] = {
        "dtype": getattr(torch, dtype),
        "order": config.order,
        "cotangent": target.cotangent,
        "seed": config.seed,
        "replays": config.replays,
        "false_alarm": config.false_alarm,
    }
    title = f"{name}, {dtype}, scale {scale:g}"
    manual = target.manual if config.order == 1 else None
    methods = tuple(each for each in config.methods if each != "manual" or manual is not None)
    if not methods:
        raise CheckInputError(f"target={name} has no gradient by hand; add reverse or forward to methods.")
    found = gradients(
        target.fn,
        target.inputs,
        manual,
        device=device,
        methods=methods,
        reference=target.reference,
        name=title,
        **settings,
    )
    if device.type == "cpu":
        return found
    line = against_cpu(
        target.fn,
        target.inputs,
        dtype=getattr(torch, dtype),
        device=device,
        cotangent=target.cotangent,
        seed=config.seed,
        replays=config.replays,
        false_alarm=config.false_alarm,
    )
    return CheckResult(title, [*found.lines, line], found.findings, found.notes, found.settings, found.columns)


def rows(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """One row per case and method, the worst of its inputs; plain data for tables and charts."""
    found = []
    for case in cases:
        methods: dict[str, Line] = {}
        for line in case.result:
            method = line.subject.partition(",")[0]
            held = methods.get(method)
            if held is None or (ORDER[line.verdict], _size(line)) > (ORDER[held.verdict], _size(held)):
                methods[method] = line
        found += [
            {
                "target": case.target,
                "dtype": case.dtype,
                "scale": case.scale,
                "method": method,
                "verdict": line.verdict,
                **{name: line.measured.get(name) for name in ("max_abs", "max_rel", "max_ulp", "of_bound", "bound")},
                "reason": line.reason,
            }
            for method, line in methods.items()
        ]
    return found


def _size(line: Line) -> float:
    value = line.measured.get("max_rel")
    return math.inf if value is None or math.isnan(value) else float(value)


def summary(cases: Sequence[Case]) -> Table:
    """One line per case and method."""
    table = Table(title="gradients against differences", title_justify="left", show_edge=False, pad_edge=False)
    for name in ("target", "dtype"):
        table.add_column(name, overflow="fold")
    table.add_column("scale", justify="right", no_wrap=True)
    table.add_column("method")
    for name in ("max rel", "max ulp", "of bound"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in rows(cases):
        numbers = [shown(row[name]) for name in ("max_rel", "max_ulp", "of_bound")]
        verdict: Verdict = row["verdict"]
        table.add_row(
            Text(row["target"]),
            row["dtype"],
            f"{row['scale']:g}",
            row["method"],
            *numbers,
            Text(verdict, style=COLOURS[verdict]),
            Text(row["reason"]),
        )
    return table


def digits(cases: Sequence[Case], config: CheckConfig) -> Table:
    """A chart in characters: how many decimal digits of the gradient are right, over the scale."""
    table = Table(
        title="right digits of the gradient over the scale (x: inf or nan)",
        title_justify="left",
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("target")
    table.add_column("dtype")
    table.add_column("method")
    for scale in config.scale:
        table.add_column(f"{scale:g}", justify="right")
    found = rows(cases)
    for target in config.target:
        for dtype in config.dtype:
            own = [row for row in found if row["target"] == target and row["dtype"] == dtype]
            for method in dict.fromkeys(row["method"] for row in own):
                by_scale = {row["scale"]: row for row in own if row["method"] == method}
                cells = [_digits(by_scale.get(scale)) for scale in config.scale]
                table.add_row(Text(target), dtype, method, *cells)
    return table


def _digits(row: dict[str, Any] | None) -> Text:
    if row is None or row["max_rel"] is None:
        return Text("")
    error = row["max_rel"]
    style = COLOURS[row["verdict"]]
    if math.isnan(error) or math.isinf(error):
        return Text("x", style=style)
    return Text(f"{min(16.0, max(0.0, -math.log10(error))) if error else 16:.0f}", style=style)


def _write_json(cases: Sequence[Case], config: CheckConfig, path: Path) -> None:
    document = {
        "schema_version": 1,
        "gradkit": gradkit.__version__,
        "torch": torch.__version__,
        "device": config.device,
        "results": [
            {"target": case.target, "dtype": case.dtype, "scale": case.scale, **case.result.to_dict()} for case in cases
        ],
    }
    try:
        path.write_text(json.dumps(_finite(document), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"json: cannot write {str(path)!r}: {error.strerror}.") from error


def _finite(value: Any) -> Any:
    """The same data with infinities and NaNs as words, which JSON has no numbers for."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value

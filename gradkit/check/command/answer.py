"""What `python -m gradkit.check` does once its configuration is known to be sound: compare, print, write."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

import gradkit
from gradkit.check.command.schema import TARGETS, CheckConfig
from gradkit.check.command.sweep import Case, Sweep, rows
from gradkit.check.command.targets import BUILT_IN, Target, from_user
from gradkit.check.engine.devices import against_cpu
from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.files import write_results
from gradkit.check.engine.gradients import gradients
from gradkit.check.engine.result import COLOURS, ORDER, CheckResult, Verdict
from gradkit.config.console import CommandConsole
from gradkit.config.trust import import_trusted
from gradkit.errors import ConfigError


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
    console = CommandConsole()
    cells = [(name, dtype, scale) for name in config.target for dtype in config.dtype for scale in config.scale]
    sweep = Sweep(console, cells)
    cases = []
    with sweep:
        for name, dtype, scale in cells:
            case = Case(name, dtype, scale, _examined(makers[name](scale), name, dtype, scale, device, config))
            cases.append(case)
            sweep.show(case)
    if len(cases) == 1 or config.details:
        for case in cases:
            console.print(case.result)
    if len(cases) > 1:
        sweep.explain(cases)
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
    about = {"gradkit": gradkit.__version__, "torch": torch.__version__, "device": config.device}
    labels = [{"target": case.target, "dtype": case.dtype, "scale": case.scale} for case in cases]
    try:
        write_results(path, [case.result for case in cases], about, labels)
    except OSError as error:
        raise ConfigError(f"json: cannot write {str(path)!r}: {error.strerror}.") from error

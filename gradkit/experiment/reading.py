"""Reads an `experiment.yaml`: every mistake is one line that names the key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradkit.config.wording import listed, quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.experiment.reader import Reader, load
from gradkit.experiment.schema import FILE, RELATIONS, Arm, Claim, Experiment, Figure, filled, matched, matching

MOST_RUNS = 10_000
LARGEST_SEED = 2**32 - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
KEYS = ("question", "program", "common", "arms", "vary", "seeds", "metrics", "claims", "figures", "quick")
QUICK_KEYS = ("common", "arms", "seeds", "claims", "figures")


def read_experiment(folder: Path, *, quick: bool = False, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in a folder.

    Args:
        folder: Holds an `experiment.yaml`.
        quick: Apply its `quick` section: `common` is added, `arms` are patterns that select, the rest replaces.
        overrides: Set in every arm, after everything in the file.

    Raises:
        ConfigError: The file cannot be read, or says something that is not understood.
    """
    document = load(folder / FILE)
    document.only(KEYS)
    quick_part = document.part("quick") if document.has("quick") else None
    if quick and quick_part is None:
        raise ConfigError(f"{document.where}: there are no quick settings; run it without --quick.")
    if quick_part is not None:
        quick_part.only(QUICK_KEYS)
    if not quick:
        quick_part = None
    later = (*(quick_part.words("common") if quick_part is not None else ()), *overrides)
    arms = _arms(document, document.words("common"), later)
    if quick_part is not None and quick_part.has("arms"):
        arms = matching(arms, quick_part.words("arms"), f"{document.where}: quick.arms")

    def part(name: str) -> Reader:
        return quick_part if quick_part is not None and quick_part.has(name) else document

    made = Experiment(
        name=folder.resolve().name,
        folder=folder,
        question=document.text("question"),
        arms=arms,
        seeds=_seeds(part("seeds")),
        metrics={name: str(text) for name, text in document.mapping("metrics").items()},
        claims=tuple(_claim(each) for each in part("claims").parts("claims")),
        figures=tuple(_figure(each) for each in part("figures").parts("figures")),
        quick=quick,
    )
    _check(made, document.where)
    return made


def _arms(document: Reader, common: Sequence[str], later: Sequence[str]) -> tuple[Arm, ...]:
    program = document.text("program", "train")
    made: list[Arm] = []
    axes = document.mapping("vary")
    only_on: dict[str, tuple[str, ...]] = {}
    for name, content in document.mapping("arms").items():
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{document.where}: arms: {quoted(name)} may hold letters, digits, '.', '_' and '-' only."
            )
        part = Reader(content if isinstance(content, dict) else {"set": content}, f"{document.where}: arms.{name}")
        part.only(("set", "program", "vary"))
        made.append(Arm(name, part.text("program", program), part.words("set"), {"arm": name}))
        if part.has("vary"):
            taken = part.words("vary")
            for axis in taken:
                if axis not in axes:
                    raise ConfigError(
                        f"{part.where}: vary: no axis is called {quoted(axis)}.{did_you_mean(axis, axes)}"
                    )
            only_on[name] = taken
    if not made:
        raise ConfigError(f"{document.where}: arms: there should be at least one.")
    for axis, labels in axes.items():
        choices = Reader(labels, f"{document.where}: vary.{axis}")
        for label in choices.values:
            if not _NAME.fullmatch(label):
                raise ConfigError(f"{choices.where}: {quoted(label)} may hold letters, digits, '.', '_' and '-' only.")
        if not choices.values or len(made) * len(choices.values) > MOST_RUNS:
            raise ConfigError(f"{choices.where}: expected 1 to {MOST_RUNS} arms in all.")
        spread: list[Arm] = []
        for arm in made:
            if axis not in only_on.get(arm.axes["arm"], axes):
                spread.append(arm)
                continue
            for label in choices.values:
                overrides = (*arm.overrides, *choices.words(label))
                name = f"{arm.name}/{label}"
                spread.append(dataclasses.replace(arm, name=name, overrides=overrides, axes={**arm.axes, axis: label}))
        made = spread
    # Common settings are what arms may deviate from; quick ones and the user's come after an arm's own. Arms of another
    # program have other keys.
    return tuple(
        dataclasses.replace(
            arm, overrides=_merged(common, arm.overrides, later) if arm.program == program else arm.overrides
        )
        for arm in made
    )


def _merged(*parts: Sequence[str]) -> tuple[str, ...]:
    """Overrides in order; of two for one key the later, since a command line may set a key only once."""
    found: dict[str, str] = {}
    for part in parts:
        for override in part:
            key = override.partition("=")[0].lstrip("+~")
            found.pop(key, None)
            found[key] = override
    return tuple(found.values())


def _seeds(document: Reader) -> tuple[int, ...]:
    value = document.values.get("seeds", [0, 1, 2, 3, 4])
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_RUNS:
        return tuple(range(value))
    good = isinstance(value, list) and value and all(type(seed) is int and 0 <= seed <= LARGEST_SEED for seed in value)
    if not good or len(set(value)) < len(value):
        raise ConfigError(
            f"{document.where}: seeds should be a number of seeds or a list of them, got {quoted(value)}."
        )
    return tuple(value)


def _claim(part: Reader) -> Claim:
    part.only([each.name for each in dataclasses.fields(Claim)])
    relations = [name for name in RELATIONS if part.has(name)]
    if len(relations) != 1:
        raise ConfigError(f"{part.where}: expected one of {', '.join(RELATIONS)}, got {listed(relations) or 'none'}.")
    relation = relations[0]
    values: dict[str, Any] = {"say": part.text("say"), "arm": part.text("arm")}
    if relation in ("finding", "absent"):
        values[relation] = part.text(relation)
    else:
        values["metric"] = part.text("metric")
        other = part.values[relation]
        if isinstance(other, bool) or not isinstance(other, (str, int, float)):
            raise ConfigError(f"{part.where}: {relation} should be an arm or a number, got {quoted(other)}.")
        values[relation] = other if isinstance(other, str) else float(other)
    for name in ("factor", "tolerance"):
        if part.has(name):
            values[name] = _number(part, name)
    if relation == "ratio_to":
        between = part.values.get("between")
        if not isinstance(between, list) or len(between) != 2:
            raise ConfigError(f"{part.where}: between should be two numbers, null where open, got {quoted(between)}.")
        values["between"] = tuple(_number(part, "between", each) if each is not None else None for each in between)
        values[relation] = part.text(relation)
    if part.has("seeds"):
        count = part.values["seeds"]
        if type(count) is not int or count < 1:
            raise ConfigError(f"{part.where}: seeds should be a whole number from 1, got {quoted(count)}.")
        values["seeds"] = count
    return Claim(**values)


def _number(part: Reader, key: str, value: Any = None) -> float:
    value = part.values[key] if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ConfigError(f"{part.where}: {key} should be a number, got {quoted(value)}.")
    return float(value)


def _figure(part: Reader) -> Figure:
    part.only([each.name for each in dataclasses.fields(Figure)])
    if part.has("curve") == part.has("metric"):
        raise ConfigError(f"{part.where}: expected either curve or metric.")
    values: dict[str, Any] = {name: part.text(name) for name in ("name", "title")}
    values |= {name: part.text(name) for name in ("curve", "metric", "x", "y", "alt") if part.has(name)}
    if part.has("arms"):
        values["arms"] = part.words("arms")
    for name in ("log", "log_x"):
        if part.has(name):
            if not isinstance(part.values[name], bool):
                raise ConfigError(f"{part.where}: {name} should be true or false, got {quoted(part.values[name])}.")
            values[name] = part.values[name]
    if not _NAME.fullmatch(values["name"]):
        raise ConfigError(f"{part.where}: name may hold letters, digits, '.', '_' and '-' only.")
    return Figure(**values)


def _check(experiment: Experiment, where: str) -> None:
    """Everything that refers to something refers to something that is there."""
    if len(experiment.arms) * len(experiment.seeds) > MOST_RUNS:
        raise ConfigError(f"{where}: {len(experiment.arms) * len(experiment.seeds):,} runs; at most {MOST_RUNS:,}.")
    from gradkit.experiment.metrics import Expression

    for name, text in experiment.metrics.items():
        Expression.read(text, f"{where}: metrics.{name}")
    names = {arm.name for arm in experiment.arms}
    for number, claim in enumerate(experiment.claims):
        here = f"{where}: claims[{number}]"
        if claim.metric is not None and claim.metric not in experiment.metrics:
            near = did_you_mean(claim.metric, experiment.metrics)
            raise ConfigError(f"{here}: unknown metric {quoted(claim.metric)}.{near}")
        if claim.seeds is not None and claim.seeds > len(experiment.seeds):
            raise ConfigError(f"{here}: seeds is {claim.seeds}, but there are only {len(experiment.seeds)}.")
        for arm in matching(experiment.arms, [claim.arm], here):
            other = getattr(claim, claim.relation)
            if claim.relation in ("finding", "absent") or not isinstance(other, str):
                continue
            partner = filled(other, matched(claim.arm, arm.name) or ())
            if partner not in names:
                raise ConfigError(f"{here}: no arm is called {quoted(partner)}.{did_you_mean(partner, names)}")
    for number, figure in enumerate(experiment.figures):
        here = f"{where}: figures[{number}]"
        shown = matching(experiment.arms, figure.arms, here)
        if figure.metric is not None and figure.metric not in experiment.metrics:
            raise ConfigError(f"{here}: unknown metric {quoted(figure.metric)}."
                              f"{did_you_mean(figure.metric, experiment.metrics)}")  # fmt: skip
        if figure.x is not None and any(figure.x not in arm.axes for arm in shown):
            raise ConfigError(f"{here}: x should name an axis of vary, got {quoted(figure.x)}."
                              f"{did_you_mean(figure.x, shown[0].axes)}")  # fmt: skip

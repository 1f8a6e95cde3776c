"""Sorts runs into arms by their configurations, and says what each run is paired by."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradkit.runs.folders import Run

ABSENT = "-"
"""Shown where a run's configuration has no such key."""


@dataclass(frozen=True)
class Arm:
    """Runs that were configured alike but for their seeds.

    Attributes:
        label: The settings in short, unique in its comparison.
        settings: The differing keys with this arm's values; with `--by`, those keys alone.
        runs: Its completed runs, one per pair.
        pairs: What each run is paired by: its seed, and with `--by` the values of all other differing keys.
    """

    label: str
    settings: Mapping[str, Any]
    runs: tuple[Run, ...]
    pairs: tuple[Hashable, ...]

    def values(self, metric: str) -> dict[Hashable, float]:
        """Pair to value, of the runs that have the metric."""
        return {
            pair: run.metrics[metric] for pair, run in zip(self.pairs, self.runs, strict=True) if metric in run.metrics
        }


def latest(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Of runs with one configuration and seed the one started last, and the others."""
    latest: dict[str, Run] = {}
    counts = _counted(runs)
    for run in runs:
        settings = {key: value for key, value in run.config.items() if counts(key)}
        identity = json.dumps([run.seed, settings], sort_keys=True, default=str)
        if not settings:  # then nothing says that two runs are one
            identity = str(run.folder)
        before = latest.get(identity)
        if before is None or str(run.manifest.get("started", "")) >= str(before.manifest.get("started", "")):
            latest[identity] = run
    chosen = {id(run) for run in latest.values()}
    return [run for run in runs if id(run) in chosen], [run for run in runs if id(run) not in chosen]


def _counted(runs: Sequence[Run]) -> Callable[[str], bool]:
    """Whether a key is more than bookkeeping: every run says itself which of its keys are that."""
    named = {each for run in runs for each in run.manifest.get("bookkeeping", ())}
    groups = tuple(each for each in named if each.endswith("."))
    return lambda key: key not in named and not key.startswith(groups)


def differing_keys(runs: Sequence[Run]) -> tuple[str, ...]:
    """The keys in which runs differ, but for seeds that follow the run's own and for bookkeeping."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    found = []
    for key in filter(_counted(runs), keys):
        follows_seed = key.rpartition(".")[2] == "seed" and all(
            run.config.get(key, run.seed) == run.seed for run in runs
        )
        if not follows_seed and len({_frozen(run.config.get(key, ABSENT)) for run in runs}) > 1:
            found.append(key)
    return tuple(found)


def _frozen(value: Any) -> Hashable:
    """Equal for equal values; 1 and 1.0 are the same learning rate, true and 1 are not the same switch."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**53 else value
    return json.dumps(value, sort_keys=True, default=str)


def arms_of(runs: Sequence[Run], keys: Sequence[str], pairing: Sequence[str]) -> list[Arm]:
    """The runs by the values of some keys, each arm with a label of its own.

    Args:
        runs: Completed ones, each configuration and seed once.
        keys: Those that form the arms.
        pairing: Differing keys, whose values pair the runs as far as they do not form the arms.
    """
    rest = [key for key in pairing if key not in keys]
    grouped: dict[Hashable, list[Run]] = {}
    for run in runs:
        grouped.setdefault(tuple(_frozen(run.config.get(key, ABSENT)) for key in keys), []).append(run)
    labelling = _without_consequences(keys, runs)
    arms: list[Arm] = []
    taken: Counter[str] = Counter()
    for members in grouped.values():
        settings = {key: members[0].config.get(key, ABSENT) for key in keys}
        label = ", ".join(f"{_short(key)}={_text(settings[key])}" for key in labelling if settings[key] != ABSENT)
        label = label or ("all runs" if len(grouped) == 1 else "(none of the differing keys)")
        taken[label] += 1
        if taken[label] > 1:
            label = f"{label} #{taken[label]}"
        pairs = _pairs(members, rest)
        arms.append(Arm(label, settings, tuple(members), tuple(pairs)))
    return arms


def _pairs(runs: Sequence[Run], rest: Sequence[str]) -> list[Hashable]:
    """What each run is paired by; runs without a configuration and with the same seed are told apart by a number."""
    seen: Counter[Hashable] = Counter()
    pairs: list[Hashable] = []
    for run in runs:
        pair: Hashable = (run.seed, *(_frozen(run.config.get(key, ABSENT)) for key in rest))
        seen[pair] += 1
        pairs.append(pair if seen[pair] == 1 else (pair, seen[pair]))
    return pairs


def _without_consequences(keys: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """The keys that a label needs: `optimizer.beta1` follows from `optimizer.name` when no two Adams differ in it."""
    needed = []
    for key in keys:
        name = f"{key.rpartition('.')[0]}.name"
        if key == name or name not in keys:
            needed.append(key)
            continue
        seen: dict[Hashable, set[Hashable]] = {}
        for run in runs:
            values = seen.setdefault(_frozen(run.config.get(name, ABSENT)), set())
            values.add(_frozen(run.config.get(key, ABSENT)))
        if any(len(values) > 1 for values in seen.values()):
            needed.append(key)
    return needed


def _short(key: str) -> str:
    return key.removesuffix(".name")


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}"

"""What an experiment is: arms, claims and figures, and which arms a pattern names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradkit.config.wording import listed, quoted
from gradkit.errors import ConfigError, did_you_mean

FILE = "experiment.yaml"
RELATIONS = ("above", "below", "equals", "ratio_to", "finding", "absent")


@dataclass(frozen=True)
class Arm:
    """One way to configure the runs.

    Attributes:
        name: Such as `never/sgd`; the part after each slash comes from an axis of `vary`.
        program: What runs: a name of `gradkit.experiment.programs`.
        overrides: What is set, after the experiment's common ones.
        axes: Axis of `vary` to this arm's label on it, and `arm` to the base name.
    """

    name: str
    program: str
    overrides: tuple[str, ...]
    axes: Mapping[str, str]


@dataclass(frozen=True)
class Claim:
    """A statement about arms that the runs bear out or not.

    Attributes:
        say: The statement in words.
        arm: Pattern of the arms it is about; each must satisfy it. `*` stands for any text.
        metric: Name of the metric; None for claims about findings.
        above: An arm (its `*` takes what the pattern's matched) or a number the metric must exceed, seed by seed.
        below: The same, the other way round.
        equals: The same, within `tolerance`.
        ratio_to: The arm the metric is divided by, seed by seed; `between` bounds the interval of the mean ratio.
        finding: A rule that must have found something in every run counted.
        absent: A rule, or `*`, that must have found nothing.
        factor: The other side of `above` and `below` is multiplied by this.
        tolerance: Largest relative difference for `equals`.
        between: Bounds of the ratio; both ends of its interval lie inside. None leaves a side open.
        seeds: In how many seeds it must hold at least; None is all.
    """

    say: str
    arm: str
    metric: str | None = None
    above: str | float | None = None
    below: str | float | None = None
    equals: str | float | None = None
    ratio_to: str | None = None
    finding: str | None = None
    absent: str | None = None
    factor: float = 1.0
    tolerance: float = 0.0
    between: tuple[float | None, float | None] | None = None
    seeds: int | None = None

    @property
    def relation(self) -> str:
        """Which of `RELATIONS` it is."""
        return next(name for name in RELATIONS if getattr(self, name) is not None)


@dataclass(frozen=True)
class Figure:
    """One chart, drawn from the runs.

    Attributes:
        name: Of its files.
        title: Above it.
        curve: A series to draw over the steps; exclusive with `metric`.
        metric: A metric to draw per arm.
        x: For a metric: an axis of `vary` whose labels are numbers, instead of one place per arm.
        y: Title of the vertical axis.
        arms: Patterns of the arms shown.
        log: Logarithmic vertical axis.
        log_x: Logarithmic horizontal axis.
        alt: What it shows, in one sentence.
    """

    name: str
    title: str
    curve: str | None = None
    metric: str | None = None
    x: str | None = None
    y: str = ""
    arms: tuple[str, ...] = ("*",)
    log: bool = False
    log_x: bool = False
    alt: str = ""


@dataclass(frozen=True)
class Experiment:
    """An experiment as its file describes it, with the quick settings applied where they were asked for.

    Attributes:
        name: Of its folder.
        folder: Where its file is.
        question: What it answers.
        arms: In the order of the file, the axes of `vary` multiplied out.
        seeds: Of every arm.
        metrics: Name to `gradkit.experiment.metrics` expression.
        claims: What must hold.
        figures: What is drawn.
        quick: Whether these are the quick settings.
    """

    name: str
    folder: Path
    question: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    metrics: Mapping[str, str]
    claims: tuple[Claim, ...]
    figures: tuple[Figure, ...]
    quick: bool = False


def matching(arms: Sequence[Arm], patterns: Sequence[str], where: str) -> tuple[Arm, ...]:
    """The arms some pattern matches, in their own order.

    Raises:
        ConfigError: A pattern that matches none.
    """
    for pattern in patterns:
        if not any(matched(pattern, arm.name) is not None for arm in arms):
            names = [arm.name for arm in arms]
            raise ConfigError(f"{where}: no arm is called {quoted(pattern)}.{did_you_mean(pattern, names)}"
                              f" The arms: {listed(names, 12)}.")  # fmt: skip
    return tuple(arm for arm in arms if any(matched(pattern, arm.name) is not None for pattern in patterns))


def matched(pattern: str, name: str) -> tuple[str, ...] | None:
    """What each `*` of a pattern stands for in a name; None when it does not match.

    Example:
        >>> matched("never/*", "never/sgd"), matched("never/*", "always/sgd"), matched("never", "never")
        (('sgd',), None, ())
    """
    found = re.fullmatch(".*".join(f"{re.escape(part)}" for part in pattern.split("*")).replace(".*", "(.*)"), name)
    return found.groups() if found else None


def filled(pattern: str, texts: Sequence[str]) -> str:
    """The pattern with its `*` replaced in order.

    Example:
        >>> filled("always/*", ["sgd"])
        'always/sgd'
    """
    for text in texts:
        pattern = pattern.replace("*", text, 1)
    return pattern

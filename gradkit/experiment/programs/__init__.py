"""What the arms of an experiment can run, by short name; each writes a run folder like a training run's."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean

PROGRAMS = {
    "train": "a training run of `python -m gradkit.train`",
    "inference": "forwards under one of five ways to evaluate: bytes, graph, memory and time",
    "accumulation": "gradients accumulated over micro-batches of unequal lengths, against the whole batch",
    "saturation": "gradients of one loss form in one dtype at one size of the logits, against float64",
}


class Program(Protocol):
    """A module of this package."""

    def resolved(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The whole configuration with seed 0, checked; imports no torch.

        Raises:
            ConfigError: An override that cannot be used.
        """

    def run(self, overrides: Sequence[str], seed: int, folder: Path) -> None:
        """Run into an empty folder that exists.

        Raises:
            GradkitError: The run failed for a reason of the user's.
        """


def program(name: str) -> Program:
    """The program called `name`.

    Raises:
        ConfigError: There is none; the nearest is offered.
    """
    if name not in PROGRAMS:
        raise ConfigError(
            f"program: expected one of {', '.join(PROGRAMS)}, got {quoted(name)}.{did_you_mean(name, PROGRAMS)}"
        )
    return cast(Program, import_module(f"gradkit.experiment.programs.{name}"))

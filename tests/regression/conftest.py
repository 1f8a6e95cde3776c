"""Fixtures that hold a run or a text against its golden file in `goldens/`; `--gradkit-update` writes it instead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gradkit.trajectory.golden import check
from gradkit.trajectory.values import Trajectory

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written.

    The option belongs to the plugin, which an environment made before the plugin's entry point does not load.
    """
    return bool(request.config.getoption("gradkit_update", default=False) or os.environ.get("GRADKIT_UPDATE"))


@pytest.fixture
def hold(update: bool) -> Callable[..., None]:
    """Hold a trajectory against `goldens/NAME.json`; one golden may serve several runs that must agree."""

    def held(trajectory: Trajectory, name: str, *, write: bool = True, rtol: float | None = None) -> None:
        path = GOLDENS / f"{name}.json"
        check(trajectory, path, update=update and write, rtol=rtol, shown=f"tests/regression/goldens/{name}.json")

    return held


@pytest.fixture
def hold_text(update: bool) -> Callable[[str, str], None]:
    """Hold a text against `goldens/NAME`, letter by letter."""

    def held(text: str, name: str) -> None:
        path = GOLDENS / name
        if update and (not path.exists() or path.read_text(encoding="utf-8") != text):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"There is no golden file {name} yet; make it with --gradkit-update."
        assert text == path.read_text(encoding="utf-8"), f"Not as in {name}; accept it with --gradkit-update."

    return held

"""The fixture `trajectory_regression`: records a training run and holds it against a golden file beside the test."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradkit.errors import ConfigError, GradkitError
from gradkit.trajectory.golden import TrajectoryChangedError, check
from gradkit.trajectory.values import Trajectory

if TYPE_CHECKING:
    from gradkit.trajectory.recorder import Recording

DEFAULT_FOLDER = "goldens"


class TrajectoryRegression:
    """What the fixture gives a test.

    Args:
        request: pytest's.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._node = request.node
        self._config = request.config
        self._checked: set[str] = set()

    def record(self, *targets: Any) -> Recording:
        """A recording of every optimizer step inside its `with` block; give it to `check` afterwards.

        Args:
            targets: Models and optimizers to record; with none, every optimizer that steps in this process.

        Raises:
            gradkit.errors.ConfigError: A target is neither model nor optimizer.
        """
        from gradkit.trajectory.recorder import Recording

        return Recording(*targets)

    def check(
        self,
        records: Recording | Trajectory | str | os.PathLike[str] | Iterable[Mapping[str, Any]],
        *,
        name: str = "",
        rtol: float | None = None,
    ) -> None:
        """Fail the test unless the run follows its golden file; `--gradkit-update` writes the file instead.

        Args:
            records: A recording, a run folder of `python -m gradkit.train`, or a loop's own records, one mapping per
                step such as `{"loss": 0.69, "grad_norm_l2": 1.2}`.
            name: Tells several runs of one test apart.
            rtol: Largest relative difference at step 0; None for that of the run's dtype.

        Raises:
            pytest.fail.Exception: The run left its golden trajectory, there is no golden file yet, or the records
                cannot be used.
        """
        __tracebackhide__ = True
        problem = ""
        try:
            self._check(records, name, rtol)
        except (GradkitError, TrajectoryChangedError) as error:
            # Without a traceback: the message is about the run, not about our code.
            problem = str(error)
        if problem:
            pytest.fail(problem, pytrace=False)

    def _check(self, records: Any, name: str, rtol: float | None) -> None:
        if name in self._checked:
            raise ConfigError(
                f"This test checked a trajectory {f'named {name!r}' if name else 'without a name'} already; give each "
                "one a name of its own: check(records, name=...)."
            )
        self._checked.add(name)
        path = self.golden_file(name)
        update = bool(self._config.getoption("gradkit_update"))
        check(_trajectory(records), path, update=update, rtol=rtol, shown=_short(path, self._config.rootpath))

    def golden_file(self, name: str = "") -> Path:
        """Where the golden file of this test is: `goldens/TEST_FILE/TEST.json` beside the test file."""
        folder = self._config.getini("gradkit_goldens") or DEFAULT_FOLDER
        module = Path(self._node.path)
        cls = getattr(self._node, "cls", None)
        full = ".".join(part for part in (cls.__name__ if cls else "", self._node.name, name) if part)
        plain = re.sub(r"\[(.*)\]", r"-\1", full)
        safe = re.sub(r"[^\w.=,+-]", "_", plain)
        if safe != plain:  # two tests must not share a file because of what a file name cannot hold
            safe += f"-{zlib.crc32(full.encode()):08x}"
        return module.parent / folder / module.stem / f"{safe}.json"


def _trajectory(records: Any) -> Trajectory:
    if isinstance(records, Trajectory):
        return records
    if isinstance(records, (str, os.PathLike)):
        from gradkit.trajectory.runs import trajectory_of_run

        return trajectory_of_run(Path(records))
    recorded = getattr(records, "trajectory", None)
    if isinstance(recorded, Trajectory):
        return recorded
    if isinstance(records, Iterable):
        return Trajectory.of_records(records)
    raise ConfigError(f"check takes a recording, a run folder or records, not {type(records).__name__}.")


def _short(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return str(path)

"""Trajectories of training runs: recorded, kept as small golden files, compared, and their differences explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradkit.trajectory.compare import Difference as Difference
from gradkit.trajectory.compare import compare as compare
from gradkit.trajectory.diagnosis import Diagnosis as Diagnosis
from gradkit.trajectory.diagnosis import diagnose as diagnose
from gradkit.trajectory.values import ParameterPrint as ParameterPrint
from gradkit.trajectory.values import Trajectory as Trajectory

if TYPE_CHECKING:
    from gradkit.trajectory.recorder import Recording as Recording

__all__ = ["Diagnosis", "Difference", "ParameterPrint", "Recording", "Trajectory", "compare", "diagnose"]


def __getattr__(name: str) -> Any:
    if name != "Recording":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gradkit.trajectory.recorder import Recording  # needs torch

    return Recording

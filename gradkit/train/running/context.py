"""What a run knows besides its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class JobContext:
    """Where a run writes and how it was called.

    Attributes:
        run_folder: Folder of this run, already made by Hydra (or the folder being resumed).
        overrides: The task overrides the configuration was composed from, in order.
        base: What relative paths in the configuration are meant from: where the run was first started.
        trust: Module prefixes the user allowed on the command line for `model.target` and `loss.target`.
    """

    run_folder: Path
    overrides: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    base: Path = Path()

"""Test files for real pytest runs with the plugin, and how the plugin is loaded in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

INSTALLED = bool(metadata.entry_points(group="pytest11", name="gradkit"))
"""Whether the environment the tests run in has the entry point; naming the module too would register it twice."""

ALONE = ("-p", "gradkit.integrations.pytest_plugin")
"""Loads the plugin where `PYTEST_DISABLE_PLUGIN_AUTOLOAD` is set."""

PLUGIN = ("-p", "gradkit" if INSTALLED else "gradkit.integrations.pytest_plugin")

LOOP = """\
import pytest
import torch
from torch import nn


def train(*, zero, steps=4, clear_early=False):
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        if zero:
            optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator)).square().mean().backward()
        if clear_early:
            optimizer.zero_grad()
        optimizer.step()
    return model, optimizer
"""


def environment(site: Path | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = [str(ROOT)] + ([str(site)] if site is not None else [])
    if outer := os.environ.get("PYTHONPATH"):
        path.append(outer)
    return kept | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


def entry_point(folder: Path) -> Path:
    """A folder of installed packages in which gradkit's entry point, as pyproject.toml declares it, can be found."""
    declared = re.search(
        r"^\[project\.entry-points\.(pytest11)\]\n(.+)\n", (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert declared
    metadata_folder = folder / "site" / "installed-1.0.dist-info"
    metadata_folder.mkdir(parents=True, exist_ok=True)
    (metadata_folder / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    (metadata_folder / "entry_points.txt").write_text(f"[{declared[1]}]\n{declared[2].replace(chr(34), '')}\n")
    return folder / "site"


def run_pytest(
    folder: Path,
    *arguments: str,
    plugin: tuple[str, ...] = PLUGIN,
    site: Path | None = None,
    interpreter: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run pytest in a process of its own, in `folder`; `site` is a further folder of installed packages."""
    return subprocess.run(
        [sys.executable, *interpreter, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *arguments],
        cwd=folder,
        env=environment(site),
        capture_output=True,
        text=True,
        timeout=300,  # a machine shared by many
        check=False,
    )


def counts(output: str) -> dict[str, int]:
    """What the last line of a run says: `{"passed": 2, "failed": 1}`."""
    last = [line for line in output.splitlines() if re.search(r"\d+ \w+.* in [\d.]+s", line)][-1]
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|errors?|xfailed|skipped)", last)}

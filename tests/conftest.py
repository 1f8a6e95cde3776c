"""What makes many tests on two cores quick: one thread for each process, forks, and a rested garbage collector."""

import gc
import os
import sys
from collections.abc import Iterator

import pytest

from tests.forks import COMMAND, TORCH, TRAIN, Forks, server

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """Leave out of every later collection the million objects that collecting has made: they live to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def forks() -> Forks:
    """Processes that have torch and gradkit, and no framework."""
    return server(TORCH)


@pytest.fixture(scope="session")
def train_forks() -> Forks:
    """Processes that have everything that training loads: torch, Lightning Fabric, Hydra."""
    return server(TRAIN)


@pytest.fixture(scope="session")
def command_forks() -> Forks:
    """Processes that have Hydra and no torch."""
    return server(COMMAND)


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """Leave a process in which nothing was compiled: where something was, forwards are not watched."""
    yield
    frames = sys.modules.get("torch._dynamo.eval_frame")
    if any(callable(backend) for backend in getattr(frames, "cached_backends", {}).values()):
        sys.modules["torch._dynamo"].reset()

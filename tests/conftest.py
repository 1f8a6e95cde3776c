"""What makes many tests on two cores quick: one thread for each process, forks, and a rested garbage collector."""

import gc
import os

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

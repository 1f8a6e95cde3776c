"""Fails any test here that leaves something attached to torch; undoes what the harness froze."""

import gc
from collections.abc import Iterator

import pytest

from tests.observe.leaks import no_leaks

__all__ = ["no_leaks"]


@pytest.fixture(scope="module", autouse=True)
def thawed() -> Iterator[None]:
    """Gives the objects the harness took out of the garbage collector's sight back for the tests of other folders."""
    yield
    gc.unfreeze()

"""What the runner's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.run.forks import Forks


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    server = Forks(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()

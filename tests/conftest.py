"""What makes many tests on two cores quick: one thread for each process, and a garbage collector with little to do."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """Leave out of every later collection the million objects that collecting has made: they live to the end."""
    gc.collect()
    gc.freeze()

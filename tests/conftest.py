"""One thread per worker and per process a test starts: two workers on two cores would fight over more."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

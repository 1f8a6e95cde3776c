"""Making chunks ahead: order, back-pressure, help from the caller, errors and endings."""

import threading
import time

import pytest

from gradkit.train.data.pipeline import Pipeline


def test_every_chunk_is_made_once_and_before_it_is_taken():
    made = []
    lock = threading.Lock()

    def make(chunk):
        with lock:
            made.append(chunk)

    pipeline = Pipeline(50, 4, make, lambda: None)
    for chunk in range(50):
        pipeline.take(chunk)
        assert chunk in made
    pipeline.close()
    assert sorted(made) == list(range(50))


def test_nothing_is_made_that_would_overwrite_the_chunk_in_use_or_the_one_before():
    depth, in_use, too_far = 4, -1, []

    def make(chunk):
        if chunk - depth >= in_use - 1:
            too_far.append((chunk, in_use))

    pipeline = Pipeline(30, depth, make, lambda: None)
    for chunk in range(30):
        in_use = chunk
        pipeline.take(chunk)
        time.sleep(0.001)
    pipeline.close()
    assert too_far == []


def test_the_caller_makes_chunks_while_the_thread_is_held_up():
    released, makers = threading.Event(), set()

    def make(chunk):
        makers.add(threading.current_thread().name)

    pipeline = Pipeline(3, 5, make, lambda: released.wait(10))
    for chunk in range(3):
        pipeline.take(chunk)
    released.set()
    pipeline.close()
    assert makers == {threading.current_thread().name}


@pytest.mark.parametrize("where", ["make", "first"])
def test_an_error_in_the_thread_is_raised_by_take(where):
    def fail(*_):
        raise KeyError(where)

    def wait_for_thread(chunk):
        time.sleep(0.01)

    pipeline = Pipeline(
        1000, 4, fail if where == "make" else wait_for_thread, fail if where == "first" else lambda: None
    )
    with pytest.raises(KeyError, match=where):
        for chunk in range(1000):
            pipeline.take(chunk)
    pipeline.close()


def test_close_ends_a_thread_that_waits_for_room():
    pipeline = Pipeline(1000, 4, lambda chunk: None, lambda: None)
    pipeline.take(0)
    pipeline.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "gradkit-batches"]


def test_close_from_its_own_thread_does_not_wait_for_itself():
    holder, outcome = [], []

    def make(chunk):
        if threading.current_thread().name == "gradkit-batches" and not outcome:
            holder[0].close()
            outcome.append("closed")

    started = threading.Event()
    holder.append(Pipeline(5, 5, make, lambda: started.wait(10)))
    started.set()
    deadline = time.monotonic() + 10
    while not outcome and time.monotonic() < deadline:
        time.sleep(0.001)
    assert outcome == ["closed"]

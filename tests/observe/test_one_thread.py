"""One thread is observed at a time: those that take turns are followed, and of two at once nothing is touched."""

from __future__ import annotations

import _thread
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import gradkit
from gradkit.observe.taps.one_thread import OneThread
from gradkit.observe.taps.tap import TAP
from tests.processes import watched

THREE_AT_ONCE = """\
import threading
import torch
from torch import nn

together = threading.Barrier(3)
out = {}

def train(number):
    torch.manual_seed(number)
    x = torch.randn(8, 4)
    model = nn.Linear(4, 1)
    with torch.no_grad():
        model.weight.fill_(0.1 * number)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(400):
        if step == 1:
            together.wait()
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True)).pow(2).mean().backward()
        optimizer.step()
    out[number] = model.weight.isfinite().all().item()

threads = [threading.Thread(target=train, args=(number,)) for number in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sorted(out.items()))
"""
"""Each thread has a model and an optimizer of its own, as in a search over settings."""

SUBSETS = ([], ["--select", "GK401,GK403,GK404"], ["--deep"])


class Training:
    """A model of its own for each thread."""

    def __init__(self) -> None:
        self.model = nn.Linear(2, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.x = torch.ones(4, 2)

    def steps(self, number: int, clear: bool = True) -> None:
        for _ in range(number):
            self.model(self.x).sum().backward()
            self.optimizer.step()
            if clear:
                self.optimizer.zero_grad()


def in_thread(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def codes(monitor: gradkit.Monitor) -> list[str]:
    return sorted({finding.rule for finding in monitor.findings})


@pytest.mark.parametrize("options", SUBSETS, ids=lambda options: options[-1] if options else "all")
def test_three_threads_that_train_at_once_end_as_they_do_unwatched_and_one_note_says_what_was_not_seen(
    tmp_path, options
):
    (tmp_path / "train.py").write_text(THREE_AT_ONCE)
    ended = watched("--show", "notes", *options, "train.py", cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert ended.stdout == "[(0, True), (1, True), (2, True)]\n"
    assert ended.stderr.count("note[GK901]") == 1
    assert "a second thread trained while the first had not come to rest" in ended.stderr
    assert "GK900" not in ended.stderr


def train_beside(first: Training, second: Training) -> None:
    """A step of the first, with steps of the second in the middle of its backward."""

    def beside(gradient: torch.Tensor) -> torch.Tensor:
        in_thread(lambda: second.steps(3))
        return gradient

    hidden = first.model(first.x)
    hidden.register_hook(beside)
    hidden.sum().backward()
    first.optimizer.step()


def test_nothing_is_read_any_more_once_two_threads_train_at_the_same_time():
    first, second = Training(), Training()
    with gradkit.watch(report="never") as monitor:
        first.steps(3)
        train_beside(first, second)
        first.steps(8, clear=False)  # stale, but nobody may look any more
        assert TAP.thread.over
        assert monitor.info.steps == 3
    assert codes(monitor) == ["GK901"]
    (note,) = monitor.findings
    assert note.message.startswith("After 3 steps of the run a second thread trained")
    assert {"GK101", "GK203", "GK404"} <= set(note.evidence["silenced"])


def test_threads_that_follow_each_other_are_all_observed():
    with gradkit.watch(report="never") as monitor:
        for _ in range(3):
            training = Training()
            in_thread(lambda each=training: each.steps(5))
        assert monitor.info.steps == 15
    assert monitor.findings == ()


def test_a_thread_that_the_training_one_waits_for_is_observed():
    first, second = Training(), Training()
    with gradkit.watch(report="never") as monitor:
        first.steps(5)
        in_thread(lambda: second.steps(5, clear=False))
        first.steps(5)
        assert monitor.info.steps == 15
    assert "GK101" in codes(monitor)
    assert "GK901" not in codes(monitor)


def test_a_monitor_that_starts_later_in_it_says_so_too_and_a_later_run_is_observed_again():
    training = Training()
    with gradkit.watch(report="never"):
        training.steps(2)
        train_beside(training, Training())
        with gradkit.watch(report="never") as second:
            training.steps(2)
    assert codes(second) == ["GK901"]
    with gradkit.watch(report="never") as later:
        training.steps(9, clear=False)
    assert codes(later) == ["GK101"]


def test_a_backward_and_a_step_on_a_thread_of_the_engine_are_part_of_the_running_backward():
    # On a GPU hooks run on threads that autograd started itself; those of `_thread` are as unknown to Python.
    training, inner = Training(), Training()

    def on_a_thread_python_does_not_know(gradient: torch.Tensor) -> torch.Tensor:
        done = threading.Event()

        def work() -> None:
            threading.current_thread()  # known as a dummy from here on
            inner.model(inner.x).sum().backward()
            inner.optimizer.step()
            done.set()

        _thread.start_new_thread(work, ())
        assert done.wait(10)
        return gradient

    with gradkit.watch(report="never") as monitor:
        for _ in range(3):
            hidden = training.model(training.x)
            hidden.register_hook(on_a_thread_python_does_not_know)
            hidden.sum().backward()
            training.optimizer.step()
            training.optimizer.zero_grad()
            inner.optimizer.zero_grad()
        assert monitor.info.steps == 6
    assert "GK901" not in codes(monitor)


def test_a_thread_that_only_infers_disturbs_nothing():
    training, served = Training(), Training()
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            served.model.eval()
            with torch.no_grad():
                served.model(served.x)
            served.model.train()

    thread = threading.Thread(target=serve)
    with gradkit.watch(report="never") as monitor:
        thread.start()
        training.steps(40)
        stop.set()
        thread.join()
        assert monitor.info.steps == 40
    assert monitor.findings == ()


def test_optimizers_made_and_freed_by_other_threads_do_not_disturb_the_short_way():
    training = Training()
    stop = threading.Event()

    def make() -> None:
        while not stop.is_set():
            Training()
            gc.collect(0)

    thread = threading.Thread(target=make)
    with gradkit.watch(report="never") as monitor:
        thread.start()
        training.steps(300)
        stop.set()
        thread.join()
        assert monitor.info.steps == 300
    assert monitor.findings == ()


def test_excluding_the_observed_thread_waits_until_it_looks_away():
    thread = OneThread(lambda: False, lambda frame: False, lambda: None)
    looks, order = threading.Event(), []

    def exclude() -> None:
        looks.wait(10)
        with thread.exclusive():
            order.append("excluded")

    other = threading.Thread(target=exclude)
    other.start()
    assert thread.begin(trains=True)
    looks.set()
    while thread.open:
        time.sleep(0.001)
    time.sleep(0.02)
    order.append("looked")
    thread.end()
    assert thread.begin(trains=True)  # waits in turn
    thread.end()
    other.join()
    assert order == ["looked", "excluded"]

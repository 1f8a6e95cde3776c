"""Watching a long run keeps nothing of it: memory of Python and of the process, and objects that may die."""

import gc
import os
import tracemalloc
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

import gradkit

BYTES = 1_000_000
"""Growth allowed over a whole run, whatever its length."""


def run(step, count):
    for _ in range(count):
        step()


def one_optimizer():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    features = torch.ones(2, 4)

    def step():
        optimizer.zero_grad()
        model(features).sum().backward()
        optimizer.step()

    return step


def two_optimizers():
    first, second = nn.Linear(4, 4), nn.Linear(4, 1)
    optimizers = [torch.optim.Adam(first.parameters(), lr=1e-4), torch.optim.SGD(second.parameters(), lr=1e-4)]
    features = torch.ones(2, 4)

    def step():
        for optimizer in optimizers:
            optimizer.zero_grad()
        second(first(features)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()

    return step


def growth(make, count, **options):
    """Bytes that Python holds more after `count` watched steps than after the first six hundred."""
    torch.manual_seed(0)
    step = make()
    with gradkit.watch(report="never", **options):
        run(step, 600)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            run(step, count)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("make", [one_optimizer, two_optimizers])
@pytest.mark.parametrize("options", [{}, {"deep": True}], ids=["standard", "deep"])
def test_watched_steps_leave_nothing_behind(make, options):
    assert growth(make, 750, **options) < BYTES / 20


def resident():
    """Memory of this process that is in RAM [bytes]."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("options", [{}, {"deep": True}], ids=["standard", "deep"])
def test_a_hundred_thousand_watched_steps_grow_by_less_than_a_megabyte(options):
    torch.manual_seed(0)
    step = one_optimizer()
    with gradkit.watch(report="never", **options):
        run(step, 5_000)
        gc.collect()
        before = resident()
        run(step, 100_000)
        gc.collect()
        assert resident() - before < BYTES


def test_models_and_optimizers_of_a_search_die_while_the_process_is_watched():
    alive = []
    with gradkit.watch(report="never") as monitor:
        before = monitor.optimizers()  # those that other tests left alive
        for _ in range(30):
            model = nn.Linear(3, 1)
            optimizer = torch.optim.Adam(model.parameters())
            for _ in range(3):
                optimizer.zero_grad()
                model(torch.ones(2, 3)).sum().backward()
                optimizer.step()
            alive += [weakref.ref(model), weakref.ref(optimizer), weakref.ref(model.weight)]
        del model, optimizer
        gc.collect()
        assert sum(reference() is not None for reference in alive) == 0
        assert [optimizer for optimizer in monitor.optimizers() if all(optimizer is not old for old in before)] == []

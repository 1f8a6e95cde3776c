"""Watching does not wait for the device: `aten::_local_scalar_dense`, which every read of a number goes through."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import gradkit

WARM_STEPS = 150
"""Steps in which gradkit learns how a loop clears and looks once at everything; reads are allowed there."""


class Reads(TorchDispatchMode):
    """Counts reads of tensors to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "_local_scalar_dense" in str(func):
            self.count["reads"] += 1
        return func(*args, **(kwargs or {}))


def training(clear, device="cpu"):
    """A step function of a small model whose loop clears by `clear`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    features = torch.randn(16, 6, device=device)

    def step() -> None:
        clear(model, optimizer)
        model(features).pow(2).mean().backward()
        optimizer.step()

    return model, optimizer, step


@contextmanager
def counted() -> Iterator[Counter[str]]:
    with Reads() as reads:
        yield reads.count


def to_none(model, optimizer):
    optimizer.zero_grad()


def to_zeros(model, optimizer):
    optimizer.zero_grad(set_to_none=False)


def test_the_count_sees_a_read():
    with counted() as count:
        torch.ones(1).item()
    assert count["reads"] == 1


@pytest.mark.parametrize("clear", [to_none, to_zeros])
def test_a_sound_loop_is_watched_without_waiting_between_budgeted_reads(clear):
    model, optimizer, step = training(clear)
    with gradkit.watch(model, optimizer, report="never") as monitor:
        for _ in range(WARM_STEPS):
            step()
        before = monitor.info.reads
        with counted() as count:
            for _ in range(200):
                step()
        assert count["reads"] == 0
        # The rare look at whether the weights still move, which is put off ever longer.
        assert monitor.info.reads - before <= 2
    assert monitor.findings == ()


def test_deep_mode_on_a_cpu_does_not_wait_either():
    model, optimizer, step = training(to_none)
    with gradkit.watch(model, optimizer, deep=True, report="never"):
        for _ in range(WARM_STEPS):
            step()
        with counted() as count:
            for _ in range(200):
                step()
    assert count["reads"] == 0


def test_deep_values_of_a_device_are_read_in_blocks(monkeypatch):
    # Everything on a device is not plain; on a CPU, where nobody waits, nothing else is either if it is said not to be.
    monkeypatch.setattr("gradkit.observe.windows.sound.is_plain", lambda gradients: False)
    monkeypatch.setattr("gradkit.observe.windows.deep.is_plain", lambda gradients: False)
    model, optimizer, step = training(to_none)
    with gradkit.watch(model, optimizer, deep=True, report="never") as monitor:
        for _ in range(WARM_STEPS):
            step()
        before = monitor.info.reads
        with counted() as count:
            for _ in range(256):
                step()
        assert count["reads"] == 0
        # 64 windows at a time; the other reads are looks at whether the weights still move.
        assert 3 <= monitor.info.reads - before <= 6


def test_clearing_that_leaves_no_trace_is_read_within_the_budget():
    def through_data(model, optimizer):
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.data.zero_()

    model, optimizer, step = training(through_data)
    with gradkit.watch(model, optimizer, budget=1e-6, report="never") as monitor:
        for _ in range(WARM_STEPS):
            step()
        before = monitor.info.reads
        for _ in range(200):
            step()
        assert monitor.info.reads - before <= 2
    assert monitor.findings == ()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_watched_loop_on_a_gpu_never_waits():
    model, optimizer, step = training(to_none, "cuda")
    with gradkit.watch(model, optimizer, report="never"):
        for _ in range(WARM_STEPS):
            step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(100):
                step()
        finally:
            torch.cuda.set_sync_debug_mode("default")

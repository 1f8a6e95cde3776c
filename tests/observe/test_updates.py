"""The observer of updates: blocks of reads where a device must be waited for, sleep, and nothing kept alive."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

import gradkit
from gradkit.observe.books.motion import BLOCK, Sample
from gradkit.observe.observers.membership import MembershipObserver
from gradkit.observe.observers.updates import UpdatesObserver
from gradkit.observe.tensors.checksums import changed, checksum
from gradkit.observe.tensors.measure import Reader
from tests.rules.membership import Net, train, watched


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Treat every device as one that must be waited for; the list grows with each read."""
    monkeypatch.setattr(Sample, "waits", property(lambda self: True))
    reads: list[int] = []
    original = Reader.read

    def read(self: Reader, numbers: Any) -> list[float]:
        reads.append(len(numbers))
        return original(self, numbers)

    monkeypatch.setattr(Reader, "read", read)
    return reads


def test_a_device_is_waited_for_once_per_block(waits: list[int]) -> None:
    def run() -> None:
        model = Net()
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 200)

    assert not watched(run, select=["GK403", "GK404", "GK406"])
    assert 1 <= len(waits) <= 200 // BLOCK


@pytest.mark.parametrize(("rate", "rule"), [(0.0, "GK403"), (3.0, "GK404")])
def test_blocks_find_what_single_steps_find(waits: list[int], rate: float, rule: str) -> None:
    def run() -> None:
        torch.manual_seed(0)
        model = nn.Linear(8, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for _ in range(20):
            x = torch.randn(32, 8)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), x[:, :3]).backward()
            optimizer.step()

    assert set(watched(run)) == {rule}


@pytest.mark.parametrize("bystanders", [0, 100])
@pytest.mark.parametrize("kind", [MembershipObserver, UpdatesObserver])
def test_a_clean_run_is_hardly_ever_looked_at(monkeypatch: pytest.MonkeyPatch, kind: Any, bystanders: int) -> None:
    kept = [torch.optim.SGD(nn.Linear(1, 1).parameters()) for _ in range(bystanders)]
    calls = []
    original = kind.after_step
    monkeypatch.setattr(kind, "after_step", lambda self, optimizer: (calls.append(1), original(self, optimizer))[1])

    def run() -> None:
        model = Net()
        train(model, torch.optim.Adam(model.parameters(), lr=1e-3), 2000)

    assert not watched(run)
    assert 3 <= len(calls) <= 400
    assert len(kept) == bystanders


@pytest.mark.parametrize("bystanders", [0, 50])
@pytest.mark.parametrize("steps", [1, 40])
def test_models_of_the_past_are_not_kept_alive(bystanders: int, steps: int) -> None:
    weights = []
    kept = [torch.optim.SGD(nn.Linear(1, 1).parameters()) for _ in range(bystanders)]
    with gradkit.watch(report="never", frozen=("nothing",), select=["GK4", "GK106"]) as monitor:
        for _ in range(2):
            model = Net()
            weights.append(weakref.ref(model.stem.weight))
            train(model, torch.optim.AdamW(model.parameters(), lr=0.01), steps)
        del model
        gc.collect()
        assert [reference() for reference in weights] == [None] * 2
    assert monitor.findings == ()
    assert len(kept) == bystanders


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]
)
def test_a_checksum_sees_a_change_of_the_last_bit(dtype: torch.dtype) -> None:
    tensor = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype).T
    before = checksum(tensor)
    reader = Reader(0.01)
    assert changed([before], [checksum(tensor.clone())], reader) == [False]
    raw = torch.view_as_real(tensor) if dtype.is_complex else tensor
    one = raw.view(-1) if raw.is_contiguous() else raw.reshape(-1).clone()
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    one.view(bits)[0] += 1
    assert changed([before], [checksum(one)], reader) == [True]


def test_freed_storage_has_no_checksum() -> None:
    tensor = torch.randn(4)
    tensor.untyped_storage().resize_(0)
    assert checksum(tensor) is None
    assert changed([None], [checksum(torch.ones(2))], Reader(0.01)) == [None]


@pytest.mark.parametrize("layout", ["plain", "transposed", "channels last", "scalar", "empty"])
def test_samples_measure_the_change_of_any_layout(layout: str) -> None:
    tensor = {
        "plain": torch.ones(8, 8),
        "transposed": torch.ones(8, 4).T,
        "channels last": torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(1.0),
        "empty": torch.ones(0, 3),
    }[layout]
    sample = Sample([tensor, torch.ones(3)])
    before = sample.take()
    tensor *= 3.0
    moved, change, size = (float(number) for number in sample.compare(before, sample.take()))
    count = tensor.numel()
    assert moved == min(count, 96 if layout == "channels last" else 64)
    assert change == pytest.approx(4.0 * count)
    assert size == pytest.approx(count + 3)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_defaults_of_the_user_do_not_reach_our_tensors(device: str) -> None:
    def run() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batches = [torch.randn(8, 4) for _ in range(24)]
        torch.set_default_dtype(torch.float64)
        try:
            with torch.device(device):
                for x in batches:
                    optimizer.zero_grad()
                    model(x).pow(2).mean().backward()
                    optimizer.step()
        finally:
            torch.set_default_dtype(torch.float32)

    assert not watched(run)


def test_parameters_without_data_are_left_out() -> None:
    def run() -> None:
        with torch.device("meta"):
            model = Net()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(6):
                optimizer.zero_grad()
                model(torch.ones(8, 4)).pow(2).mean().backward()
                optimizer.step()

    crashes = [finding.message for finding in watched(run).values()]
    assert not any("Observer" in message for message in crashes)

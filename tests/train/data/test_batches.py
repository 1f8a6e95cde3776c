"""Order, resumption, ranks and lifetime of batches."""

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradkit.errors import ConfigError
from gradkit.train.data import Batches, Split
from gradkit.train.data import batches as batches_module


def numbered(count, width=3):
    """A split whose features and targets tell the row they came from."""
    rows = torch.arange(count, dtype=torch.float32)
    return Split(rows[:, None] * 10 + torch.arange(width), rows.clone())


def rows_of(iterator):
    """Row numbers of each batch, after checking that features and targets belong together."""
    found = []
    for features, targets in iterator:
        assert torch.equal(features[:, 0], targets * 10)
        found.append(targets.to(torch.int64).tolist())
    return found


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 8 rows, so that tens of samples already need the thread."""
    monkeypatch.setattr(batches_module, "CHUNK_ROWS", 8)


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "gradkit-batches"]


@pytest.mark.parametrize("shuffle", ["full", "batches", "none"])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 100, 1000])
def test_every_epoch_visits_every_sample_once(small_chunks, shuffle, batch_size):
    batches = Batches(numbered(100), batch_size, seed=3, shuffle=shuffle)
    for epoch in range(3):
        found = rows_of(batches.epoch(epoch))
        assert len(found) == batches.steps_per_epoch
        assert sorted(row for batch in found for row in batch) == list(range(100))
        assert all(len(batch) == min(batch_size, 100) for batch in found[:-1])


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 90),
    batch_size=st.integers(1, 40),
    epoch=st.integers(0, 10**6),
    seed=st.integers(0, 2**32 - 1),
    shuffle=st.sampled_from(["full", "batches", "none"]),
    data=st.data(),
)
def test_an_epoch_from_any_start_equals_the_tail_of_the_whole(count, batch_size, epoch, seed, shuffle, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module, "CHUNK_ROWS", 8)
        split = numbered(count)
        whole = rows_of(Batches(split, batch_size, seed=seed, shuffle=shuffle).epoch(epoch))
        start = data.draw(st.integers(0, len(whole)))
        fresh = Batches(split, batch_size, seed=seed, shuffle=shuffle)
        assert rows_of(fresh.epoch(epoch, start)) == whole[start:]


def test_order_depends_on_seed_and_epoch_and_not_on_history(small_chunks):
    split = numbered(50)
    batches = Batches(split, 4, seed=1)
    epochs = [rows_of(batches.epoch(epoch)) for epoch in range(4)]
    assert rows_of(batches.epoch(1)) == epochs[1]
    assert rows_of(Batches(split, 4, seed=1).epoch(3)) == epochs[3]
    assert len({str(epoch) for epoch in epochs}) == 4
    assert rows_of(Batches(split, 4, seed=2).epoch(1)) != rows_of(Batches(split, 4, seed=1).epoch(2))


def test_full_order_does_not_depend_on_the_size_of_chunks(monkeypatch):
    split = numbered(100)
    orders = []
    for rows in (1, 8, 64, 1000):
        monkeypatch.setattr(batches_module, "CHUNK_ROWS", rows)
        orders.append(rows_of(Batches(split, 4, seed=1).epoch(0)))
    assert all(order == orders[0] for order in orders)


def test_a_full_shuffle_is_close_to_uniform():
    split = numbered(4)
    batches = Batches(split, 4, seed=0)
    counts = np.zeros((4, 4))
    for epoch in range(2000):
        for place, row in enumerate(rows_of(batches.epoch(epoch))[0]):
            counts[place, row] += 1
    # Expected 500 each with standard deviation 19; five of them leave room.
    assert abs(counts - 500).max() < 97


@pytest.mark.parametrize("shuffle", ["full", "batches", "none"])
def test_the_global_random_state_is_untouched(small_chunks, shuffle):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    rows_of(Batches(numbered(100), 4, seed=3, shuffle=shuffle).epoch(0))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])


@pytest.mark.parametrize("shuffle", ["full", "batches", "none"])
@pytest.mark.parametrize(("count", "ranks", "batch_size"), [(96, 4, 4), (101, 4, 4), (50, 3, 16), (7, 7, 2)])
def test_ranks_share_an_epoch_evenly_and_without_overlap(small_chunks, shuffle, count, ranks, batch_size):
    split = numbered(count)
    shares = [
        rows_of(Batches(split, batch_size, seed=5, shuffle=shuffle, rank=rank, ranks=ranks).epoch(2))
        for rank in range(ranks)
    ]
    seen = [row for share in shares for batch in share for row in batch]
    assert len(seen) == len(set(seen)) == count - count % ranks
    assert len({tuple(map(len, share)) for share in shares}) == 1


@pytest.mark.parametrize("shuffle", ["full", "batches", "none"])
def test_ranks_together_see_the_batches_of_one_rank_with_a_larger_batch(small_chunks, shuffle):
    split = numbered(96)
    alone = rows_of(Batches(split, 12, seed=5, shuffle=shuffle).epoch(2))
    shares = [rows_of(Batches(split, 4, seed=5, shuffle=shuffle, rank=rank, ranks=3).epoch(2)) for rank in range(3)]
    for step, batch in enumerate(alone):
        assert sorted(batch) == sorted(row for share in shares for row in share[step])


def test_unshuffled_batches_are_views_of_the_split():
    split = numbered(20)
    features, targets = next(Batches(split, 4, seed=0, shuffle="none").epoch(0))
    assert features.data_ptr() == split.features.data_ptr()
    assert targets.data_ptr() == split.targets.data_ptr()


def test_batches_of_a_full_shuffle_share_a_few_buffers(small_chunks):
    iterator = Batches(numbered(400), 8, seed=0).epoch(0)
    addresses = {features.data_ptr() for features, _ in iterator}
    assert len(addresses) <= batches_module.BUFFERS


def test_a_batch_stays_valid_while_the_next_chunk_is_used(small_chunks):
    batches = Batches(numbered(160), 8, seed=0)
    previous = copied = None
    for epoch in range(3):
        for _, targets in batches.epoch(epoch):
            if previous is not None:
                assert torch.equal(previous, copied)
            previous, copied = targets, targets.clone()


def test_two_iterators_of_one_object_do_not_disturb_one_another(small_chunks):
    batches = Batches(numbered(80), 4, seed=0)
    expected = rows_of(batches.epoch(0)), rows_of(batches.epoch(1))
    first, second = batches.epoch(0), batches.epoch(1)
    found = ([], [])
    for (_, a), (_, b) in zip(first, second, strict=True):
        found[0].append(a.to(torch.int64).tolist())
        found[1].append(b.to(torch.int64).tolist())
    assert found == expected


@pytest.mark.parametrize("how", ["closed", "collected", "finished"])
def test_the_thread_ends_with_its_iterator(small_chunks, how):
    iterator = Batches(numbered(400), 4, seed=0).epoch(0)
    next(iterator)
    assert len(workers()) == 1
    if how == "closed":
        iterator.close()
    elif how == "collected":
        del iterator
        gc.collect()
    else:
        list(iterator)
    assert workers() == []


def test_there_is_no_thread_for_one_chunk():
    iterator = Batches(numbered(400), 4, seed=0).epoch(0)
    next(iterator)
    assert workers() == []


def test_an_error_while_gathering_reaches_the_caller(small_chunks, monkeypatch):
    def fail(self, chunk, index):
        raise MemoryError("no room")

    monkeypatch.setattr("gradkit.train.data.staging.Ring.gather", fail)
    with pytest.raises(MemoryError, match="no room"):
        list(Batches(numbered(400), 4, seed=0).epoch(0))
    assert workers() == []


def test_batches_made_under_inference_mode_can_be_trained_on_later(small_chunks):
    batches = Batches(numbered(40), 4, seed=0)
    with torch.inference_mode():
        list(batches.epoch(0))
    weight = torch.ones(3, requires_grad=True)
    for features, _ in batches.epoch(1):
        (features @ weight).sum().backward()
    assert weight.grad is not None


def test_dtype_is_converted_and_images_keep_their_shape(small_chunks):
    split = Split(torch.randn(40, 1, 8, 8), torch.zeros(40))
    features, targets = next(Batches(split, 4, seed=0, dtype=torch.float64).epoch(0))
    assert features.shape == (4, 1, 8, 8)
    assert features.dtype == targets.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3,), (1, 4, 5), ()])
@pytest.mark.parametrize("gaps", [False, True])
def test_shuffled_rows_are_gathered_bit_for_bit(small_chunks, dtype, shape, gaps):
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(40, *shape, 2, generator=draw).to(dtype)[..., 0]
    features[0], features[1] = -0.0, torch.nan
    if not gaps:
        features = features.contiguous()
    split = Split(features, torch.arange(40, dtype=dtype))
    for found, places in Batches(split, 4, seed=0, dtype=dtype).epoch(0):
        expected = features[places.to(torch.int64)].contiguous()
        assert torch.equal(found.view(-1).view(torch.uint8), expected.view(-1).view(torch.uint8))


def test_start_at_the_end_is_an_empty_epoch_and_beyond_it_an_error():
    batches = Batches(numbered(10), 4, seed=0)
    assert list(batches.epoch(0, 3)) == []
    for epoch, start in ((0, 4), (0, -1), (-1, 0)):
        with pytest.raises(ValueError, match="expected epoch >= 0"):
            batches.epoch(epoch, start)


def test_misuse_is_refused_before_the_first_batch():
    split = numbered(4)
    with pytest.raises(ConfigError, match=r"trainer\.shuffle='ful'.*Did you mean 'full'\?"):
        Batches(split, 4, seed=0, shuffle="ful")
    with pytest.raises(ConfigError, match=r"trainer\.batch_size=0"):
        Batches(split, 0, seed=0)
    with pytest.raises(ConfigError, match=r"trainer\.devices=5 is more than the 4 samples"):
        Batches(split, 1, seed=0, ranks=5)
    with pytest.raises(ValueError, match="rank"):
        Batches(split, 1, seed=0, rank=2, ranks=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("shuffle", ["full", "batches", "none"])
def test_a_gpu_gets_the_same_batches(small_chunks, monkeypatch, resident, shuffle):
    monkeypatch.setattr(batches_module, "resident", lambda *_: resident)
    split = numbered(4000)
    host = Batches(split, 4, seed=0, shuffle=shuffle)
    device = Batches(split, 4, seed=0, shuffle=shuffle, device="cuda")
    for (a, b), (c, d) in zip(host.epoch(1), device.epoch(1), strict=True):
        assert c.device.type == d.device.type == "cuda"
        assert torch.equal(a, c.cpu())
        assert torch.equal(b, d.cpu())


def test_a_program_that_dies_in_the_middle_of_an_epoch_ends():
    """The traceback keeps the iterator, and so its thread, alive until the very end."""
    code = (
        "import torch; from gradkit.train.data import Batches, Split\n"
        "held = Batches(Split(torch.zeros(200_000, 4), torch.zeros(200_000)), 64, seed=0).epoch(0)\n"
        "for batch in held:\n"
        "    raise SystemExit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 7

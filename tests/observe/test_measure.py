"""Norms of gradients and the budget of reads."""

from __future__ import annotations

import math

import pytest
import torch

from gradkit.observe.tensors.measure import FREE_READS, Reader, norms


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_norms_do_not_overflow_in_narrow_types(dtype: torch.dtype) -> None:
    # The squares, 4e4 * 4e4, are beyond the largest half.
    found = float(norms([torch.tensor([3e4, 4e4], dtype=dtype)])[0])
    assert found == pytest.approx(5e4, rel=1e-2)


def test_norms_of_several_types_come_in_order() -> None:
    found = norms([torch.tensor([3.0, 4.0]), torch.tensor([6.0, 8.0]).half(), torch.tensor([3.0 + 4.0j])])
    assert [float(value) for value in found] == [5.0, 10.0, 5.0]


def test_a_sparse_gradient_counts_its_stored_values() -> None:
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 4]]), torch.tensor([3.0, 4.0]), (10,), check_invariants=True)
    assert float(norms([sparse])[0]) == 5.0


def test_values_come_back_in_order_whatever_their_type() -> None:
    numbers = [torch.tensor(1.0), torch.tensor(2.0, dtype=torch.float64), torch.tensor(3.0), torch.tensor(math.nan)]
    found = Reader(0.01).read(numbers)
    assert found[:3] == [1.0, 2.0, 3.0]
    assert math.isnan(found[3])


def test_tensors_without_data_are_unknown_and_raise_nothing() -> None:
    found = Reader(0.01).read([torch.tensor(1.0), torch.empty((), device="meta")])
    assert found[0] == 1.0
    assert math.isnan(found[1])


def test_nothing_to_read_is_no_error() -> None:
    assert Reader(0.01).read([]) == []


def test_the_free_reads_are_made_whatever_they_cost_and_then_the_budget_holds() -> None:
    reader = Reader(0.01)
    reader.seconds = 1e9
    reader.reads = FREE_READS - 1
    assert reader.allows()
    reader.reads = FREE_READS
    assert not reader.allows()
    reader.seconds = 0.0
    assert reader.allows()


def test_every_read_is_counted_with_its_time() -> None:
    reader = Reader(0.01)
    reader.read([torch.tensor(1.0)])
    reader.norms([torch.ones(2)])
    assert reader.reads == 1
    assert reader.seconds > 0.0

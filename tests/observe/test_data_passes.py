"""What becomes of micro-batches left over at the end of a pass: carried on, thrown away, or counted on with."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradkit

WINDOW = 3


def evidence_of(batches, *, clears=False, counts_on=False, passes=4, steps_rest=False):
    """Watches passes of that many micro-batches in windows of three; the evidence of the finding, None without one."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(torch.randn(2 * batches, 4)), batch_size=2)
    seen = 0
    with gradkit.watch(report="never", select=["GK104"]) as monitor:
        for _ in range(passes):
            if clears:
                optimizer.zero_grad()
            for index, (x,) in enumerate(loader):
                (model(x).pow(2).mean() / WINDOW).backward()
                seen += 1
                count = seen if counts_on else index + 1
                if count % WINDOW == 0 or (steps_rest and index + 1 == batches):
                    optimizer.step()
                    optimizer.zero_grad()
    assert len(monitor.findings) <= 1
    return monitor.findings[0].evidence if monitor.findings else None


@pytest.mark.parametrize(("batches", "left"), [(7, 1), (8, 2), (11, 2)])
def test_what_goes_into_the_next_pass_makes_its_first_window_longer(batches, left):
    evidence = evidence_of(batches)
    assert (evidence["carried"], evidence["first_window"], evidence["left_over"]) == (True, WINDOW + left, left)
    assert (evidence["batches"], evidence["window"], evidence["borders"]) == (batches, WINDOW, 4)


def test_two_passes_show_it_once_on_the_way_and_once_at_the_end():
    evidence = evidence_of(7, passes=2)
    assert (evidence["carried"], evidence["first_window"], evidence["borders"]) == (True, WINDOW + 1, 2)


@pytest.mark.parametrize(("batches", "left"), [(7, 1), (8, 2), (11, 2)])
def test_what_is_cleared_before_the_next_pass_is_thrown_away(batches, left):
    evidence = evidence_of(batches, clears=True)
    assert (evidence["carried"], evidence["first_window"], evidence["left_over"]) == (False, None, left)


def test_what_waits_at_the_very_end_is_thrown_away():
    evidence = evidence_of(7, clears=True, passes=2)
    assert (evidence["carried"], evidence["borders"]) == (False, 2)


@pytest.mark.parametrize(("taken", "found"), [(7, True), (4, False), (5, False)])
def test_a_pass_ends_with_its_last_batch_though_nobody_asks_for_more(taken, found):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(torch.randn(14, 4)), batch_size=2, shuffle=True)
    with gradkit.watch(report="never", select=["GK104"]) as monitor:
        for _ in range(4):
            for index, (x,) in zip(range(taken), loader, strict=False):
                (model(x).pow(2).mean() / WINDOW).backward()
                if (index + 1) % WINDOW == 0:
                    optimizer.step()
                    optimizer.zero_grad()
    assert [finding.evidence["batches"] for finding in monitor.findings] == [7] * found


@pytest.mark.parametrize(
    "options",
    [
        {"batches": 9},
        {"batches": 7, "counts_on": True},
        {"batches": 7, "steps_rest": True},
        {"batches": 5},  # one full window says nothing of the size that was meant
        {"batches": 7, "passes": 1},
    ],
)
def test_whole_windows_and_single_borders_are_silent(options):
    assert evidence_of(**options) is None

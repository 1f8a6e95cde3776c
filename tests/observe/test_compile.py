"""Watching adds no graph break and no recompilation to a compiled model, and says nothing where it cannot look."""

import warnings

import pytest
import torch
from torch import nn
from torch._dynamo import reset
from torch._dynamo.utils import counters

import gradkit


@pytest.fixture(autouse=True)
def nothing_stays_compiled():
    """While compiled code exists no hook is attached to forwards: it would change what later tests see."""
    yield
    reset()


def trained(backend, watched):
    """Weights, number of graphs and of graph breaks after ten steps of a compiled model."""
    reset()
    counters.clear()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))
    compiled = torch.compile(model, backend=backend)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = gradkit.watch(model, optimizer, report="never")
    if watched:
        monitor.start()
    for _ in range(10):
        optimizer.zero_grad()
        compiled(torch.randn(4, 6)).pow(2).mean().backward()
        optimizer.step()
    monitor.stop()
    stats = counters["stats"]
    found = [finding.rule for finding in monitor.findings if finding.severity.value != "note"]
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    return weights, stats["unique_graphs"], sum(counters["graph_break"].values()), found


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_is_the_same_watched(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        plain, graphs, breaks, _ = trained(backend, watched=False)
        seen, watched_graphs, watched_breaks, found = trained(backend, watched=True)
    assert (watched_graphs, watched_breaks) == (graphs, breaks)
    assert graphs >= 1
    assert all(torch.equal(first, second) for first, second in zip(plain, seen, strict=True))
    assert found == []


def test_a_fault_in_a_loop_with_a_compiled_model_is_found():
    reset()
    model = nn.Linear(6, 1)
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradkit.watch(model, optimizer, report="never") as monitor:
        for _ in range(6):
            compiled(torch.ones(4, 6)).pow(2).mean().backward()
            optimizer.step()
    assert [finding.rule for finding in monitor.findings] == ["GK101"]

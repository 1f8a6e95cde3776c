"""A second step late in a run is an error at once, unless the program could have put the weights back unseen."""

import importlib.util

import pytest

import gradkit

LOOP = """
import torch
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def train(again):
    for step in range(12):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        before = model.weight.detach().clone()
        optimizer.step()
        if step in again:
            {between}
            optimizer.step()
"""


def reused(tmp_path, between, again):
    file = tmp_path / "loop.py"
    file.write_text(LOOP.format(between=between))
    spec = importlib.util.spec_from_file_location("loop", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with gradkit.watch(module.model, module.optimizer, report="never") as monitor:
        module.train(again)
    return [(finding.rule, finding.first_step) for finding in monitor.findings]


@pytest.mark.parametrize(
    ("between", "again", "first"),
    [
        ("pass", [7], 8),
        ("pass", [7, 9], 8),
        ("model.weight.data", [7, 9], 11),
    ],
    ids=["once", "twice", "twice, in a program that could write unseen"],
)
def test_a_late_second_step_is_reported_as_soon_as_it_is_certain(between, again, first, tmp_path):
    assert reused(tmp_path, between, again) == [("GK103", first)]


@pytest.mark.parametrize(
    "between",
    [
        "model.weight.data.copy_(before)",
        "model.weight.data = before",
        "model.weight.detach().numpy()[:] = before.numpy()",
        "torch.nn.utils.vector_to_parameters(before.flatten(), [model.weight])",
        "with torch.no_grad(): model.weight.copy_(before)",
    ],
)
@pytest.mark.parametrize("again", [[7], [7, 9], range(5, 12)], ids=["once", "twice", "often"])
def test_weights_that_were_put_back_make_it_none(between, again, tmp_path):
    assert reused(tmp_path, between, again) == []

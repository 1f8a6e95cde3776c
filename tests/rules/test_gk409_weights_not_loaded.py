"""GK409: what the finding says of each difference of names, and that a load costs nothing where something fits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradkit
from gradkit.findings import Severity
from gradkit.observe.taps.loading import LOADING
from gradkit.records import Location
from gradkit.records.loading import NothingLoaded
from gradkit.rules.gk409_weights_not_loaded import WeightsNotLoaded

LOADED, STEPPED = Location("train.py", 10, "main"), Location("train.py", 20, "main")


def judge(**changes):
    record = NothingLoaded(
        **{
            "model": "Net",
            "parameters": ("a.weight", "a.bias"),
            "given": 2,
            "key": "b.weight",
            "wanted": "a.weight",
            "optimizer": "SGD",
            "step": 3,
            "location": LOADED,
            "step_line": STEPPED,
            **changes,
        }
    )
    (finding,) = WeightsNotLoaded().check([record])
    return finding


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ({}, "it holds `b.weight` where the model has `a.weight`"),
        ({"extra": "module."}, "its keys begin with `module.`, those of the model do not"),
        ({"lacking": "net."}, "the model's keys begin with `net.`, those of the dictionary do not"),
    ],
)
def test_says_how_the_names_differ(difference, reason):
    finding = judge(**difference)
    assert (finding.severity, finding.location, finding.first_step) == (Severity.ERROR, LOADED, 3)
    assert finding.message == (
        f"`load_state_dict(strict=False)` matched none of the 2 trainable parameters of Net: {reason}."
        " SGD then trained it from its initial values."
    )
    assert finding.labels == ((STEPPED, "the model was first trained here"),) or list(finding.labels) == [
        (STEPPED, "the model was first trained here")
    ]


def trained(load, model):
    with gradkit.watch(report="never", select=("GK409",)) as monitor:
        load(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    return monitor.findings


@pytest.mark.parametrize(
    ("prefix", "evidence"),
    [("module.", {"extra_prefix": "module."}), ("a.b.", {"extra_prefix": "a.b."}), ("", {})],
)
def test_the_prefix_is_found_whatever_it_is(prefix, evidence):
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    state = {prefix + key: value for key, value in other.state_dict().items()}
    found = trained(lambda net: net.load_state_dict(state, strict=False), model)
    assert [finding.rule for finding in found] == (["GK409"] if prefix else [])
    for finding in found:
        assert {key: finding.evidence[key] for key in evidence} == evidence


def test_a_dictionary_that_lacks_one_shape_was_not_meant_for_the_model():
    model = nn.Linear(3, 2)
    state = {"other.weight": torch.zeros(2, 3)}
    assert trained(lambda net: net.load_state_dict(state, strict=False), model) == ()
    state["other.bias"] = torch.zeros(2)
    assert [f.rule for f in trained(lambda net: net.load_state_dict(state, strict=False), nn.Linear(3, 2))] == ["GK409"]


def test_a_load_that_fits_reads_no_parameter(monkeypatch):
    def read(tensors):
        raise AssertionError("checksums were taken")

    monkeypatch.setattr("gradkit.observe.observers.loading.checksums", read)
    assert trained(lambda net: net.load_state_dict(nn.Linear(3, 2).state_dict()), nn.Linear(3, 2)) == ()


def test_nothing_stays_replaced():
    before = nn.Module.load_state_dict
    with gradkit.watch(report="never"):
        assert LOADING.listeners
    assert nn.Module.load_state_dict is before

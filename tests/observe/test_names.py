"""Names of parameters in messages."""

from __future__ import annotations

import pytest
import torch

from gradkit.observe.program.living import living_roots
from gradkit.observe.program.names import Namer, plain_name


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("weight", "weight"),
        ("_orig_mod.module.head.weight", "head.weight"),
        ("module._orig_mod.head.weight", "head.weight"),
        ("block._orig_mod.weight", "block.weight"),
        ("my_module.weight", "my_module.weight"),
        ("_fsdp_wrapped_module.2._fsdp_wrapped_module.weight", "2.weight"),
        ("_fsdp_wrapped_module._flat_param", "_flat_param"),
        ("layer._checkpoint_wrapped_module.weight", "layer.weight"),
        ("", ""),
    ],
)
def test_wrappers_leave_no_trace_in_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_parameters_are_named_by_the_model_that_was_named() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = Namer([model]).describe(optimizer, list(model.parameters()))
    assert [item.name for item in found] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert [item.module for item in found] == ["0", "0", "1", "1"]
    assert found[0].shape == (3, 2)


def test_a_living_model_names_parameters_when_none_was_named() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert Namer([]).describe(optimizer, [model[0].bias])[0].name == "0.bias"


def test_parameters_of_no_module_are_named_by_their_place() -> None:
    first, second = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([{"params": [first]}, {"params": [second]}], lr=0.1)
    gone = torch.nn.Parameter(torch.ones(3))
    names = [item.name for item in Namer([]).describe(optimizer, [first, second, gone])]
    assert names == [
        'optimizer.param_groups[0]["params"][0]',
        'optimizer.param_groups[1]["params"][0]',
        "a parameter that left the optimizer",
    ]


def test_only_modules_that_are_part_of_no_other_are_roots() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 1))
    roots = set(map(id, living_roots()))
    assert id(model) in roots
    assert id(model[0]) not in roots

"""What may be handed to `watch`, and what is said about the rest."""

from __future__ import annotations

import pytest
import torch

from gradkit.errors import ConfigError
from gradkit.observe.targets import sort_targets, unwrapped


class Wrapper:
    """An optimizer's wrapper as frameworks write them: it hands the step on."""

    def __init__(self, optimizer: object, name: str = "optimizer") -> None:
        setattr(self, name, optimizer)


def test_models_and_optimizers_are_told_apart_also_inside_lists() -> None:
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
    assert sort_targets([first, [optimizer, (second,)]]) == ([first, second], [optimizer])


@pytest.mark.parametrize("name", ["optimizer", "_optimizer"])
def test_a_wrapped_optimizer_is_found(name: str) -> None:
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
    assert unwrapped(Wrapper(optimizer, name)) is optimizer
    assert unwrapped(Wrapper(Wrapper(optimizer))) is optimizer


def test_a_wrapper_around_nothing_is_no_optimizer() -> None:
    assert unwrapped(Wrapper(None)) is None
    assert unwrapped(object()) is None


@pytest.mark.parametrize("target", [3, "model", torch.ones(1), None, {"model": 1}])
def test_anything_else_is_refused_by_its_type(target: object) -> None:
    with pytest.raises(ConfigError, match=rf"`watch` takes models .* not {type(target).__name__}\."):
        sort_targets([target])


def test_a_generator_of_parameters_is_refused_and_not_used_up() -> None:
    parameters = torch.nn.Linear(2, 1).parameters()
    with pytest.raises(ConfigError, match="not generator"):
        sort_targets([parameters])
    assert len(list(parameters)) == 2

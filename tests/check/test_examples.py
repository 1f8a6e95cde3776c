"""The examples in the docstrings of gradkit.check run."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["_gradients", "_bounds", "_module", "_result"])
def test_examples_of_the_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"gradkit.check.{name}"))
    assert found.attempted > 0
    assert found.failed == 0

"""The examples in the docstrings of gradkit.check run."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["gradients", "bounds", "module", "result"])
def test_examples_of_the_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"gradkit.check.engine.{name}"))
    assert found.attempted > 0
    assert found.failed == 0

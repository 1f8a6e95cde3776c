"""Finds every rule file `gkNNN_name.py` beside this one and in `checks`; adding a rule never edits this file."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
import sys
from types import ModuleType
from typing import Any, TypeVar

from gradkit.rules import checks
from gradkit.rules._base import FIELDS as FIELDS
from gradkit.rules._base import CheckRule as CheckRule
from gradkit.rules._base import Declared as Declared
from gradkit.rules._base import Rule as Rule

DeclaredT = TypeVar("DeclaredT", bound=Declared)


@functools.cache
def all_rules() -> dict[str, type[Rule[Any]]]:
    """Every rule that judges a run, by its code, in order of the codes.

    Raises:
        ImportError: A file named like a rule does not define exactly the rule its name promises.
    """
    return _found(sys.modules[__name__], Rule)


@functools.cache
def all_check_rules() -> dict[str, type[CheckRule]]:
    """Every code that a gradient check reports, in order of the codes.

    Raises:
        ImportError: A file named like a rule does not define exactly the rule its name promises.
    """
    return _found(checks, CheckRule)


def all_declared() -> dict[str, type[Declared]]:
    """Every code gradkit reports, in order of the codes."""
    return dict(sorted([*all_rules().items(), *all_check_rules().items()]))


def _found(package: ModuleType, base: type[DeclaredT]) -> dict[str, type[DeclaredT]]:
    found: dict[str, type[DeclaredT]] = {}
    for module_info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        matched = re.fullmatch(r"(gk\d{3})_(\w+)", module_info.name)
        if not matched:
            continue
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        classes = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
        ]
        promised = (matched[1].upper(), matched[2].replace("_", "-"))
        if [(rule.code, rule.name) for rule in classes] != [promised]:
            raise ImportError(f"{module.__name__} must define exactly one rule, {promised[0]} {promised[1]}")
        found[classes[0].code] = classes[0]
    return found

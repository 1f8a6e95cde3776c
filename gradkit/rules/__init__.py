"""Finds every rule file `gkNNN_name.py` beside this one; adding a rule never edits this file."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from typing import Any

from gradkit.rules._base import FIELDS as FIELDS
from gradkit.rules._base import Rule as Rule


@functools.cache
def all_rules() -> dict[str, type[Rule[Any]]]:
    """Every rule class by its code, in order of the codes.

    Raises:
        ImportError: A file named like a rule does not define exactly the rule its name promises.
    """
    found: dict[str, type[Rule[Any]]] = {}
    for module_info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        matched = re.fullmatch(r"(gk\d{3})_(\w+)", module_info.name)
        if not matched:
            continue
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        classes = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Rule) and value.__module__ == module.__name__
        ]
        promised = (matched[1].upper(), matched[2].replace("_", "-"))
        if [(rule.code, rule.name) for rule in classes] != [promised]:
            raise ImportError(f"{module.__name__} must define exactly one rule, {promised[0]} {promised[1]}")
        found[classes[0].code] = classes[0]
    return found

"""Faults that can be switched on: each a small visible change to the loop, in a file of its own, found by its name.

A fault is a subclass of `TrainingLoop` that replaces one of its methods, with the rule it must trigger beside it. A new
one needs its file here, its YAML file in `configs/fault/` and its entry in the schema.
"""

from __future__ import annotations

from importlib import import_module

from gradkit.train.loop.steps import TrainingLoop


def loop_with_fault(name: str) -> type[TrainingLoop]:
    """The loop class that commits the fault `name`; the plain loop for `none`.

    Raises:
        LookupError: There is no such fault; the configuration should have refused it.
    """
    if name == "none":
        return TrainingLoop
    try:
        module = import_module(f"gradkit.train.faults.{name}")
    except ModuleNotFoundError as error:
        raise LookupError(f"no fault named {name!r}") from error
    loop: type[TrainingLoop] = module.Loop
    return loop

"""What the schema of a training run says about keys: which there are, and the nearest to one that does not exist."""

from __future__ import annotations

import difflib

from gradkit.config.fields import fields_of
from gradkit.errors import did_you_mean
from gradkit.train.schema import GROUPS, TrainConfig


def top_keys() -> tuple[str, ...]:
    """The keys of the root that are no group."""
    return tuple(name for name in fields_of(TrainConfig) if name not in GROUPS)


def unknown_key(key: str, chosen: dict[str, type]) -> str:
    """One sentence on a key that does not exist, with the nearest one that does.

    Args:
        key: The dotted key.
        chosen: The schema in force for each group.
    """
    head, _, rest = key.partition(".")
    if rest and head in chosen:
        own = [name for name in fields_of(chosen[head]) if name != "name"]
        owners = [choice for choice, schema in GROUPS[head].items() if rest in fields_of(schema)]
        name = fields_of(chosen[head]).get("name")
        label = f"{head}={name.default}" if name is not None and name.default != "???" else f"{head}"
        if owners:
            return f"Unknown key {key!r}: {label} has none of that name, {head}={owners[0]} has."
        near = did_you_mean(key, [f"{head}.{each}" for each in own])
        return f"Unknown key {key!r}.{near} The keys of {label}: {', '.join(own) or 'none'}."
    leaf = key.rpartition(".")[2]
    homes = [f"{group}.{leaf}" for group, schema in chosen.items() if leaf in fields_of(schema) and leaf != "name"]
    if homes:
        return f"Unknown key {key!r}. Did you mean {homes[0]!r}?"
    everything = [*top_keys(), *GROUPS, "preset"]
    near = did_you_mean(head, everything)
    if not near:
        dotted = [f"{group}.{each}" for group, schema in chosen.items() for each in fields_of(schema)]
        close = difflib.get_close_matches(key, dotted, n=1, cutoff=0.7)
        near = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown key {key!r}.{near} The top level has {', '.join(everything)}."

"""Random records of any kind, drawn from the annotations of its class; odd, contradictory, empty and NaN ones too."""

import dataclasses
import functools
import math
import random
import types
import typing
from collections.abc import Mapping

# Fields whose documentation lists their words.
CHOICES = {
    "cause": ("operation", "no_grad", "inference_mode", "number", "leaf"),
    "order": ("between", "loop"),
    "option": ("retain_graph", "create_graph"),
}
WORDS = ("", "a", "b.weight", "layers.0.bias", "Net", "SGD")
NUMBERS = (0.0, -0.0, 1e-9, 0.5, 1.0, 3.0, 1e6, math.inf, -math.inf, math.nan)
COUNTS = (0, 1, 2, 3, 5, 20, 21, 1000)


def random_record(kind: type, rng: random.Random) -> typing.Any:
    """One record of `kind`; a field with a default keeps it half the time, so that plain records are drawn too."""
    hints = _hints(kind)
    given = {}
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required or rng.random() < 0.5:
            choices = CHOICES.get(field.name)
            given[field.name] = rng.choice(choices) if choices else _value(hints[field.name], rng)
    return kind(**given)


@functools.cache
def _hints(kind: type) -> dict[str, typing.Any]:
    return typing.get_type_hints(kind)


def _value(hint: typing.Any, rng: random.Random) -> typing.Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _value(rng.choice(arguments), rng)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            length = rng.choice((0, 1, 3, 25, 25))
            if rng.random() < 0.5:  # the same thing step after step, which is what most rules wait for
                return (_value(arguments[0], rng),) * length
            return tuple(_value(arguments[0], rng) for _ in range(length))
        return tuple(_value(each, rng) for each in arguments)
    if origin is Mapping:
        return {rng.choice(WORDS): _value(arguments[1], rng) for _ in range(rng.choice((0, 1, 3)))}
    if hint is type(None):
        return None
    if dataclasses.is_dataclass(hint):
        return random_record(hint, rng)
    drawn = {bool: (False, True), int: COUNTS, float: NUMBERS, str: WORDS}
    return rng.choice(drawn[hint])

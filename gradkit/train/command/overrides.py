"""Reading `key=value` arguments: syntax, keys, group choices, duplicates; each mistake is one line."""

from __future__ import annotations

import re
import shlex
import types
import typing
from collections.abc import Iterable, Mapping

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gradkit.config.arguments import as_argument, hydra_quoted
from gradkit.config.fields import fields_of, range_in_words, type_in_words, types_of
from gradkit.config.wording import listed, quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.train.command.keys import top_keys, unknown_key
from gradkit.train.schema import GROUPS, TrainConfig

GROUP_NAMES = (*GROUPS, "preset")

LONGEST_OVERRIDE = 10_000
"""Characters; Hydra's parser is pure Python and would read a megabyte for minutes."""

DEEPEST_NESTING = 20
"""Brackets within brackets; the parser recurses."""

LONGEST_HINT = 60
"""Characters of a value that a hint on quoting repeats."""

PARSING_ERRORS = (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError, RecursionError)
"""What Hydra's parser raises on text it cannot read."""

FREE_KEYS = "model.options"
"""The one mapping whose keys are the user's own."""


def parse(texts: Iterable[str], loader: ConfigLoader) -> list[Override]:
    """The arguments as Hydra reads them.

    Raises:
        ConfigError: One of them cannot be read, is too long, or gives a key a second time.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed: list[Override] = []
    seen: dict[str, str] = {}
    for text in texts:
        one = _parse_one(text, parser)
        if one.key_or_group == FREE_KEYS and not (one.is_add() or one.is_force_add() or one.is_delete()):
            # Hydra, too, has to add the keys of `model.options={width: 7}`, not look them up.
            one = _parse_one(f"++{text}", parser)
        elif (quoted_value := _as_written(text, one)) is not None:
            one = _parse_one(quoted_value, parser)
        one.config_loader = loader
        if (key := one.key_or_group) in seen:
            raise ConfigError(f"{key} is given twice: {quoted(seen[key])} and {quoted(text)}. Keep one of them.")
        seen[key] = text
        parsed.append(one)
    return parsed


def _parse_one(text: str, parser: OverridesParser) -> Override:
    key = re.split(r"[=@]", text.lstrip("+~"), maxsplit=1)[0]
    if len(text) > LONGEST_OVERRIDE:
        raise ConfigError(
            f"{quoted(key, 40)}: the argument has {len(text)} characters, at most {LONGEST_OVERRIDE} can be read;"
            " put a long value into a file and use --config-dir."
        )
    depth = 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if depth > DEEPEST_NESTING:
            raise ConfigError(f"{quoted(key)}: more than {DEEPEST_NESTING} brackets within each other.")
    if "=" not in text and not text.startswith("~"):
        raise ConfigError(f"{quoted(text)} is not KEY=VALUE.{_assignment(text)}")
    if not key.strip():
        raise ConfigError(f"{quoted(text)} has no key; write KEY=VALUE.")
    try:
        override = parser.parse_override(text)
    except PARSING_ERRORS as error:
        why = str(error).partition("\n")[0]
        hint = _quoting_hint(text, parser)
        raise ConfigError(f"{quoted(key)}: cannot read {quoted(text)}: {why}.{hint}") from error
    return override


def _as_written(text: str, one: Override) -> str | None:
    """`text` with its value in quotes, where a text is wanted and Hydra would make a `true` or a `1.10` another one."""
    if one.is_sweep_override() or one.is_delete():
        return None
    name, _, written = (part.strip() for part in text.partition("="))
    kinds, value = _kinds(one.key_or_group), one.value()
    if kinds == {str} and isinstance(value, bool | int | float) and str(value) != written:
        return f"{name}={hydra_quoted(written)}"
    if kinds == {list[str]} and isinstance(value, list) and all(isinstance(e, bool | int | float | str) for e in value):
        texts = _elements(written)
        if [str(each) for each in value] != texts and any(not isinstance(each, str) for each in value):
            return f"{name}=[{','.join(map(hydra_quoted, texts))}]"
    return None


def _quoting_hint(text: str, parser: OverridesParser) -> str:
    """How to quote a value that was meant as text, or as a list of texts, with a leading space."""
    name, _, value = text.partition("=")
    key = name.lstrip("+~")
    if not value or not re.fullmatch(r"[\w./@]+", key) or key in GROUPS:
        return ""
    if re.match(r"(int|str|float|bool|choice|range|glob)\(", value):
        return ""
    kinds = _kinds(key)
    if kinds and not kinds & {str, list[str]}:
        return ""
    meant = _elements(value) if list[str] in kinds else value.strip("'\"")
    if len(value) > LONGEST_HINT:
        form = "['...','...']" if list[str] in kinds else "'...'"
        return f' A value with special characters needs quotes of its own, as in "{name}={form}".'
    suggestion = as_argument(name, meant)
    try:
        parser.parse_override(shlex.split(suggestion)[0])
    except PARSING_ERRORS:
        return ""
    return f" A value with special characters needs quotes of its own: {suggestion}."


def _kinds(key: str) -> set[object]:
    """The types that a key may have, null aside, whichever choice of its group is in force."""
    head, _, rest = key.partition(".")
    schemas = GROUPS[head].values() if head in GROUPS else [TrainConfig]
    found = [types_of(schema).get(rest if head in GROUPS else key) for schema in schemas]
    unions = (typing.Union, types.UnionType)
    each = [typing.get_args(kind) if typing.get_origin(kind) in unions else (kind,) for kind in found]
    return {kind for kinds in each for kind in kinds} - {type(None), None}


def _elements(value: str) -> list[str]:
    """The texts of a list whose quotes are missing or misplaced."""
    bare = value.strip()
    if bare[:1] + bare[-1:] in ('""', "''") and bare[1:2] == "[":
        bare = bare[1:-1]
    inner = bare.removeprefix("[").removesuffix("]")
    parts, depth, quote = [""], 0, ""
    for letter in inner:
        if quote or (letter in "'\"" and not parts[-1].strip()):
            quote = "" if letter == quote else quote or letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        if letter == "," and not quote and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip().strip("'\"") for part in parts]


def _assignment(word: str) -> str:
    """What a bare word was probably meant as."""
    if "." in word and _kinds(word):
        return f" Did you mean {f'{word}=VALUE'!r}?"
    for group, choices in GROUPS.items():
        if word in choices:
            return f" Did you mean {f'{group}={word}'!r}?"
    return did_you_mean(word, [f"{name}=" for name in (*GROUP_NAMES, *top_keys())]) if word else ""


def is_group(override: Override) -> bool:
    """Whether it chooses a file of a group rather than a value."""
    return override.key_or_group in GROUP_NAMES or "/" in override.key_or_group


def is_key(override: Override) -> bool:
    """Whether it gives a value to a key of the task."""
    return not is_group(override) and not override.is_hydra_override()


def check_operators(overrides: Iterable[Override]) -> None:
    """Refuse deletions and packages.

    Raises:
        ConfigError: One of these was found.
    """
    for each in overrides:
        key, text = each.key_or_group, quoted(each.input_line)
        if each.is_delete():
            raise ConfigError(f"{text} takes away {quoted(key)}, which a run needs; give it another value instead.")
        if each.package is not None:
            raise ConfigError(f"{text}: packages (@) are not supported here; write {key}=VALUE.")


def check_sweeps(overrides: Iterable[Override], *, multirun: bool) -> None:
    """Refuse sweeps without `-m`, and those that cannot be listed.

    Raises:
        ConfigError: One of these was found.
    """
    for each in overrides:
        key, text = each.key_or_group, quoted(each.input_line)
        if each.is_sweep_override() and not multirun and not each.is_hydra_override():
            value = (each.input_line or "").partition("=")[2]
            raise ConfigError(
                f"{quoted(key)} has several values in {text}: add -m to run each of them,"
                f" or write a list as {key}=[{value[:40]}]."
            )
        if each.is_sweep_override() and (each.is_hydra_override() or not each.is_discrete_sweep()):
            raise ConfigError(f"{text}: {quoted(key)} cannot be swept in this way; list the values, as {key}=1,2.")


def check_groups(overrides: Iterable[Override], loader: ConfigLoader) -> None:
    """Refuse groups and choices that do not exist.

    Raises:
        ConfigError: Names the nearest choice.
    """
    for each in filter(is_group, overrides):
        group, text = each.key_or_group, quoted(each.input_line)
        choices = _choices(group, loader)
        if not choices or group.startswith("schema"):
            known = [*GROUP_NAMES, "hydra/launcher", "hydra/sweeper", "hydra/job_logging", "hydra/hydra_logging"]
            raise ConfigError(f"Unknown group {quoted(group)}.{did_you_mean(group, known)} Groups: {listed(known)}.")
        if (each.is_add() or each.is_force_add()) and group in GROUP_NAMES:
            raise ConfigError(f"{text}: {group} is there already; write it without +.")
        values: list[object] = [each.value()]
        if each.is_sweep_override():
            values = [value.text if isinstance(value, QuotedString) else value for value in each.sweep_iterator()]
        for value in values:
            if value is None and group == "preset":
                raise ConfigError(f"{text}: no preset is the default, and cannot be chosen by name; leave it out.")
            if not isinstance(value, str) or value not in choices:
                near = did_you_mean(value, choices) if isinstance(value, str) else ""
                extra = " Install it with: pip install gradkit[sweep]." if value == "joblib" else ""
                raise ConfigError(f"{group}: unknown choice {quoted(value)}.{near}{extra} Choices: {listed(choices)}.")


def _choices(group: str, loader: ConfigLoader) -> list[str]:
    # The loader's own way copies every schema first, 20 ms for each group.
    place = loader.repository if isinstance(loader, ConfigLoaderImpl) else loader
    choices: list[str] = place.get_group_options(group, results_filter=ObjectType.CONFIG)
    return choices


def apply_keys(cfg: DictConfig, overrides: Iterable[Override], chosen: Mapping[str, type]) -> None:
    """Set the keys in `cfg`, one by one, as Hydra would set them all.

    Raises:
        ConfigError: An unknown key, or a value of the wrong type.
    """
    for each in filter(is_key, overrides):
        key, value = each.key_or_group, each.value()
        free = key.startswith(f"{FREE_KEYS}.") and "options" in fields_of(chosen["model"])
        annotation = _annotation(key, chosen)
        if annotation is None and not free:
            raise ConfigError(unknown_key(key, dict(chosen)))
        plus = each.is_add() or each.is_force_add()
        if each.is_add() and not free:
            raise ConfigError(f"{quoted(each.input_line)}: {key} is there already; write it without +.")
        if free and not plus and OmegaConf.select(cfg, key) is None:
            raise ConfigError(f"{key} is a new key; write +{key}=VALUE to add it.")
        try:
            OmegaConf.update(cfg, key, value, merge=True, force_add=plus)
        except (OmegaConfBaseException, ValueError, TypeError, AssertionError, RecursionError) as error:
            raise _wrong_type(key, value, chosen, annotation, error) from error


def _annotation(key: str, chosen: Mapping[str, type]) -> object | None:
    head, _, rest = key.partition(".")
    if head in chosen:
        return types_of(chosen[head]).get(rest)
    return types_of(TrainConfig).get(key) if key in top_keys() else None


def _wrong_type(
    key: str, value: object, chosen: Mapping[str, type], annotation: object, error: BaseException
) -> ConfigError:
    if annotation is None:
        return ConfigError(f"{key}: cannot take {quoted(value)}: {str(error).partition(chr(10))[0]}.")
    head, _, rest = key.partition(".")
    metadata = fields_of(chosen[head])[rest].metadata if rest else fields_of(TrainConfig)[key].metadata
    limits = range_in_words(metadata)
    hint = ""
    if isinstance(value, str) and list[str] in typing.get_args(annotation) and len(value) <= LONGEST_HINT:
        hint = f" Write it as {as_argument(key, _elements(value))}."
    return ConfigError(
        f"{key}: expected {type_in_words(annotation)}{f' ({limits})' if limits else ''}, got {quoted(value)}.{hint}"
    )

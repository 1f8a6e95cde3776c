"""What Hydra, OmegaConf and PyYAML raise while composing, said in one line that names the key or the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import yaml  # type: ignore[import-untyped]  # OmegaConf's own dependency, for the errors it lets through
from hydra.conf import HydraConf
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gradkit.config.wording import listed, quoted
from gradkit.errors import ConfigError, did_you_mean

COMPOSING_ERRORS: tuple[type[Exception], ...] = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    # Hydra and OmegaConf let these through for a user's mistakes: `hydra.run=3`, a missing environment variable in
    # `hydra.job.env_copy`, a configuration file that is a folder or no UTF-8, aliases that hold themselves.
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    UserWarning,
    ValueError,
)


def explained(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """The error in gradkit's words.

    Args:
        error: Raised by `compose`, of one of `COMPOSING_ERRORS`.
        overrides: What was composed; the ones the error speaks of are named.
    """
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, yaml.MarkedYAMLError) and each.problem_mark is not None:
            mark = each.problem_mark
            return ConfigError(f"{mark.name}, line {mark.line + 1}: {each.problem or each.context}.")
    texts = [_first_line(each) for each in chain]
    everything = " ".join(str(each) for each in chain)
    spelled = re.search(r"^\s*full_key: (\S+)$", everything, re.MULTILINE)
    key = spelled[1] if spelled else ""
    named = [text for text in overrides if text in everything or _key(text) in (key, everything)]
    named = named or [text for text in overrides if f"'{_key(text)}'" in everything or _key(text) in texts[0]]
    subject = quoted(named[0]) if named else key or (quoted(overrides[0]) if len(overrides) == 1 else "configuration")
    reason = texts[-1].rstrip(".") or f"the value is not accepted ({type(chain[-1]).__name__})"
    where = f" (key {key})" if key and key not in subject else ""
    near = _near_hydra_key(key or (_key(named[0]) if named else ""))
    if isinstance(chain[-1], RecursionError):
        reason = "it refers to itself"
    told = "" if named or not overrides else f" (composing {listed(overrides, 8)})"
    return ConfigError(f"{subject}: {reason}{where}{told}.{near}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    now: BaseException | None = error
    while now is not None and id(now) not in seen:
        seen.add(id(now))
        yield now
        now = now.__cause__


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()]
    text = "".join(lines[:1])
    if found := re.fullmatch(r"In '(.*)': \w+ raised while composing config:", text):
        text = f"in the file {found[1]}: {' '.join(lines[1:2])}"
    return (
        f"there is no {text}" if isinstance(error, KeyError) and not isinstance(error, OmegaConfBaseException) else text
    )


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+~")


def _near_hydra_key(key: str) -> str:
    """The nearest of Hydra's own keys, when `key` is none of them."""
    parts = key.split(".")
    if parts[0] != "hydra" or len(parts) < 2:
        return ""
    node: object = OmegaConf.structured(HydraConf())
    for part in parts[1:]:
        if not isinstance(node, DictConfig):
            return ""
        # Not `in`: that is false for a key whose value is still missing.
        if part not in list(node.keys()):
            return did_you_mean(part, [str(each) for each in node])
        node = None if OmegaConf.is_missing(node, part) else node[part]
    return ""

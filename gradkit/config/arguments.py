"""Arguments `KEY=VALUE` as a message suggests them: in Hydra's quotes and a POSIX shell's; imports no framework."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[a-z_][a-z0-9_]*", re.ASCII | re.IGNORECASE)
"""Text that Hydra reads as such without quotes; it takes more, but not wherever a value may stand."""


def as_argument(key: str, value: str | Sequence[str]) -> str:
    r"""What to type in a shell to give a text, or a list of texts, to a key.

    Example:
        >>> print(as_argument("data.target", "y"), as_argument("data.target", "it's"))
        data.target=y 'data.target='"'"'it\'"'"'s'"'"''
        >>> print(as_argument("data.features", ["a", "w(kg)"]))
        "data.features=[a,'w(kg)']"
    """
    written = _written(value) if isinstance(value, str) else f"[{','.join(map(_written, value))}]"
    return _shell_quoted(f"{key}={written}")


def hydra_quoted(value: str) -> str:
    """A text in Hydra's grammar of overrides, where a backslash counts only before a quote or at the end."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), value)
    return f"'{escaped}'"


def _written(text: str) -> str:
    # Quotes do not keep OmegaConf from reading ${...} as an interpolation.
    return text if PLAIN.fullmatch(text) else hydra_quoted(text.replace("${", "\\${"))


def _shell_quoted(argument: str) -> str:
    # Double quotes around Hydra's single ones can be read; shlex would write '"'"' for each.
    if "'" in argument and not re.search(r'["$`\\!]', argument):
        return f'"{argument}"'
    return shlex.quote(argument)

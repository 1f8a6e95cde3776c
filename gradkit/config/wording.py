"""Words of messages: counts, lists, and a user's own words, shortened and never as control characters."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_QUOTE = 80
"""Characters of a user's value that a message repeats."""

LONGEST_MESSAGE = 700
"""Characters of a whole message; about six lines of a terminal."""


def quoted(value: object, limit: int = LONGEST_QUOTE) -> str:
    r"""`repr(value)`, cut in the middle when it is long; null, true and false as YAML writes them.

    Example:
        >>> quoted("a\nb")
        "'a\\nb'"
        >>> quoted("x" * 1000, limit=20)
        "'xxxxxxxx...xxxxxxx'"
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    # A slice first: the repr of ten megabytes is not needed to show eighty characters.
    if isinstance(value, str) and len(value) > 4 * limit:
        value = value[: 2 * limit] + value[-2 * limit :]
    text = repr(value)  # which writes what cannot be printed as an escape
    if len(text) <= limit:
        return text
    head = (limit - 2) // 2
    return text[:head] + "..." + text[head + 3 - limit :]


def listed(words: Iterable[object], limit: int = 20) -> str:
    """The words joined by commas, the first `limit` of them.

    Example:
        >>> listed(["a", "b", "c"], limit=2)
        'a, b, ... (3 in all)'
    """
    everything = [str(word) for word in words]
    if len(everything) <= limit:
        return ", ".join(everything)
    return ", ".join(everything[:limit]) + f", ... ({len(everything)} in all)"


def counted(number: int, word: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "run"), counted(1200, "run")
        ('1 run', '1,200 runs')
    """
    return f"{number:,} {word}{'s' * (number != 1)}"


def one_line(message: str) -> str:
    r"""The message without line breaks or control characters, cut to `LONGEST_MESSAGE`.

    Example:
        >>> one_line("first\n  second\x1b[31m")
        'first second\\x1b[31m'
    """
    text = " ".join(message[: 20 * LONGEST_MESSAGE].split())
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 3] + "..."

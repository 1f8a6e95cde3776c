"""Results of checks as a JSON file: written whole or not at all, and read back as the numbers they were."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.result import CheckResult
from gradkit.store import number, plain, write_atomically

SCHEMA_VERSION = 1

LARGEST_BYTES = 256 * 1024**2
"""A file beyond this is none of ours: a sweep of a thousand cells takes a few megabytes."""


def write_results(
    path: Path,
    results: Sequence[CheckResult],
    about: Mapping[str, Any] | None = None,
    labels: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Replace the file by these results, or leave it as it was.

    Args:
        path: Of the file; its folder exists.
        results: In the order they are read back.
        about: What else the file says: versions, device.
        labels: What else it says of each result: the target and scale of a sweep.

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """
    said = [{**label, **each.to_dict()} for label, each in zip(labels or [{}] * len(results), results, strict=True)]
    document = {"schema_version": SCHEMA_VERSION, **(about or {}), "results": said}
    text = json.dumps(plain(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def read_results(path: str | Path) -> list[CheckResult]:
    """The results of a file that `python -m gradkit.check json=FILE` wrote.

    Args:
        path: Of the file.

    Returns:
        Each as it was, infinities and NaNs included.

    Raises:
        CheckInputError: No such file, or not one of this kind and version.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise CheckInputError(f"{str(path)!r} is no file.")
        if path.stat().st_size > LARGEST_BYTES:
            raise CheckInputError(f"{str(path)!r} is larger than results of checks can be.")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckInputError(f"{str(path)!r} cannot be read: {error}.") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        found = document.get("schema_version") if isinstance(document, dict) else type(document).__name__
        raise CheckInputError(f"{str(path)!r} has schema version {found!r}; this gradkit reads {SCHEMA_VERSION}.")
    try:
        return [CheckResult.from_dict(_numbers(each)) for each in document["results"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckInputError(f"{str(path)!r} holds no results of checks: {type(error).__name__} {error}.") from error


WORDS = frozenset({"title", "subject", "verdict", "reason", "advice", "rule", "name", "severity", "message", "remedy"})
"""What is text whatever it says: a target may be called `Infinity`."""


def _numbers(value: Any) -> Any:
    """The data with its numbers and tuples back."""
    if isinstance(value, dict):
        return {key: each if key in WORDS else _numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return tuple(_numbers(each) for each in value)
    return number(value) if isinstance(value, str) else value

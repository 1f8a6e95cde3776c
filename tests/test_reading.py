"""Stored files of any kind and content are read or refused in words."""

import os
from pathlib import Path
from typing import Any, TypedDict

import pytest

from gradkit.reading import LONGEST_LINE, UnreadableError, lines, mismatch, parse, read_file, read_json


class Place(TypedDict):
    line: int


class Report(Place, total=False):
    rate: float
    names: list[str] | None
    places: dict[str, Place]


GOOD: dict[str, Any] = {"line": 3, "rate": 1, "names": None, "places": {"a": {"line": 1, "more": []}}, "more": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"line": True}, "`line` is bool, expected int"),
        ({"rate": "1"}, "`rate` is str, expected float"),
        ({"names": ["x", 1]}, "`names` is list, expected list or null"),
        ({"places": {"a": {}}}, "it has no `places.a.line`"),
        ({"places": []}, "`places` is list, expected dict"),
    ],
)
def test_a_value_of_another_type_is_named(change: dict[str, Any], said: str) -> None:
    assert mismatch(GOOD, Report) is None
    assert mismatch(GOOD | change, Report) == said


@pytest.mark.parametrize("brackets", ["[" * 60_000, "[" * 60_000 + "]" * 60_000, '{"a":' * 60_000])
def test_depth_is_refused_in_words(brackets: str) -> None:
    with pytest.raises(UnreadableError, match=r"nested too deeply|no JSON"):
        parse(brackets.encode())


def test_a_pipe_a_folder_and_a_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(UnreadableError, match="no regular file"):
            read_json(path)
        with pytest.raises(UnreadableError, match="no regular file"):
            list(lines(path))


def test_size_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    os.truncate(path, 2**40)  # a hole
    with pytest.raises(UnreadableError, match="1,099,511,627,776 bytes"):
        read_file(path)
    path.write_bytes(b"x" * (3 * LONGEST_LINE + 5) + b"\nshort\n" + b"y" * LONGEST_LINE + b"\nend")
    assert [(number, line and len(line)) for number, line in lines(path)] == [
        (1, None),
        (2, 6),
        (3, LONGEST_LINE + 1),
        (4, 3),
    ]

"""Lines of source text are read, and what cannot be read is empty."""

import pytest

from gradkit.sources import line_of_file, lines_of_file


def test_a_line_is_counted_from_one_and_keeps_its_line_break(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("first\nsecond\n")
    assert lines_of_file(str(path)) == ["first\n", "second\n"]
    assert [line_of_file(str(path), number) for number in (-1, 0, 1, 2, 3)] == ["", "", "first\n", "second\n", ""]


@pytest.mark.parametrize("file", ["no such file", "<string>", "", "a\0b.py", "\ud800.py", "\0"])
def test_a_name_that_no_file_can_have_has_no_lines(file):
    assert lines_of_file(file) == []
    assert line_of_file(file, 1) == ""

"""Whether a program has a way to write weights that no version counter shows."""

from __future__ import annotations

import ast
from types import FrameType

from gradkit.observe.program.sites import is_of_library, is_user_code, shown_name, users_code
from gradkit.observe.source import reading
from gradkit.observe.source.files import program

UNSEEN = frozenset(
    {"data", "data_ptr", "from_dlpack", "numpy", "set_", "storage", "untyped_storage", "vector_to_parameters"}
)
"""Names through which memory of a parameter is reached past its version counter, or replaced."""


def may_write_unseen(frame: FrameType | None) -> bool:
    """Whether the program that runs in `frame` mentions any of `UNSEEN`; also where its source cannot be read.

    A library that made the innermost call may do what it likes.
    """
    innermost = frame
    while innermost is not None and not is_user_code(innermost.f_code.co_filename):
        if is_of_library(innermost.f_code.co_filename):
            return True
        innermost = innermost.f_back
    files = {shown_name(code.co_filename) for code in users_code(innermost)}
    if not files:
        return True
    trees = [reading.parse(file) for file in program(files)]
    return any(tree is None or any(reading.last_name(node) in UNSEEN for node in ast.walk(tree)) for tree in trees)

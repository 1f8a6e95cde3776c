"""Lets every test here begin without compiled code, which hides the samples of a step."""

from tests.trajectory.loops import nothing_compiled

__all__ = ["nothing_compiled"]

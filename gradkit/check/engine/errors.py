"""The errors of gradkit.check: an input that cannot be checked, and a check that did not pass."""

from __future__ import annotations

from gradkit.errors import GradkitError


class CheckInputError(GradkitError):
    """A function, gradient, model or batch that cannot be checked as it was given."""

    slug = "check-input"


class CheckFailedError(GradkitError, AssertionError):
    """Raised by `assert_ok()`; an `AssertionError` too, so that test runners count it as a failed test."""

    slug = "check-failed"


class MethodError(Exception):
    """A way of differentiating could not give a gradient; becomes a row of the result, never leaves gradkit.check."""

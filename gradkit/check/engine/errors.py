"""The errors of gradkit.check: an input that cannot be checked, and a check that did not pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradkit.errors import GradkitError


class CheckInputError(GradkitError):
    """A function, gradient, model or batch that cannot be checked as it was given."""

    slug = "check-input"


class CheckFailedError(GradkitError, AssertionError):
    """Raised by `assert_ok()`; an `AssertionError` too, so that test runners count it as a failed test."""

    slug = "check-failed"


class MethodError(Exception):
    """A way of differentiating could not give a gradient; becomes a row of the result, never leaves gradkit.check."""


class ReplayError(MethodError):
    """A computation of gradkit's own raised, in another dtype or with other roundings than the code was written for.

    It says nothing on the code that is checked: it leads to a coarser dtype or to `inconclusive`, never to `fail`.
    """


@contextmanager
def own_computation(what: str) -> Iterator[None]:
    """Whatever is raised in the block becomes a ReplayError.

    Args:
        what: Names the computation; begins the message.
    """
    try:
        yield
    except ReplayError:
        raise
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        kind = "" if isinstance(error, (MethodError, GradkitError)) else f"{type(error).__name__}: "
        raise ReplayError(f"{what} raised {kind}{line[:200]}") from error


class UnsupportedError(MethodError):
    """torch has a gradient here that this check cannot ask for; leads to `inconclusive`."""


class ChangedInputError(CheckInputError):
    """The function changed an input that it did not declare to change."""

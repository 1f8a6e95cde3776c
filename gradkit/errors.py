"""The errors a user of gradkit can cause, each with a slug, and the words that help to mend them."""

from __future__ import annotations

from collections.abc import Iterable


class GradkitError(Exception):
    """Base of every error gradkit raises for a cause outside its own code.

    Programs print the message as one line and exit with status 2; no traceback is shown.
    """

    slug = "error"


class ConfigError(GradkitError):
    """A configuration key, value or combination that cannot be used."""

    slug = "config"


class DataError(GradkitError):
    """A data file or table that cannot be read or trained on."""

    slug = "data"


class RunFolderError(GradkitError):
    """A run folder that cannot be written, read or resumed."""

    slug = "run-folder"


class CheckpointError(GradkitError):
    """A checkpoint that is missing, damaged or does not fit."""

    slug = "checkpoint"


class NothingKeptError(GradkitError):
    """A run that went to its end and of which neither weights nor results could be written."""

    slug = "nothing-kept"


class HygieneError(GradkitError):
    """Raised from the offending step when the user asked to halt on a finding."""

    slug = "hygiene"


def did_you_mean(got: str, choices: Iterable[str]) -> str:
    """A sentence naming the nearest of `choices`, with a leading space, or an empty string.

    Example:
        >>> did_you_mean("adma", ["adam", "sgd"])
        " Did you mean 'adam'?"
        >>> did_you_mean("zzz", ["adam", "sgd"])
        ''
    """
    import difflib  # only for a mistake: every program imports this module

    close = difflib.get_close_matches(got, list(choices), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""

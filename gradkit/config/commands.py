"""What gradkit's commands share: a parser that raises, and the exit statuses of what a command raises."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from gradkit.config.wording import one_line
from gradkit.errors import ConfigError, GradkitError

USAGE_ERROR = 2
"""Exit status of a mistake of the user's."""
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and the number of SIGINT, as shells have it."""


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are `ConfigError`, and whose help is the command's own text."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f"{message[:1].upper()}{message[1:]}. See --help.")


def answer(
    program: str,
    command: Callable[[Sequence[str]], int],
    argv: Sequence[str] | None,
    *,
    interrupted: str | None = None,
) -> int:
    """Run a command and turn what it raises into one line and an exit status.

    Args:
        program: The name before a message.
        command: Takes the arguments and returns the exit status.
        argv: The arguments without the program's name; those of the process when None.
        interrupted: What to say after Ctrl-C.

    Returns:
        The exit status: the command's, 2 for a mistake of the user's, 130 after Ctrl-C, 0 when the reader of the output
        has left (`| head`).
    """
    try:
        status = command(sys.argv[1:] if argv is None else list(argv))
        _flush()
        return status
    except GradkitError as error:
        print(f"{program}: {one_line(str(error))}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        if interrupted is not None:
            print(f"{program}: {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head`: the reader has seen enough
        drop_output()
        return 0
    except OSError as error:
        # An error of a stream carries no file name; any other is a mistake of gradkit's own and shows where it is.
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF):
            raise
        drop_output()
        print(f"{program}: the output cannot be written: {error.strerror}.", file=sys.stderr)
        return USAGE_ERROR


def say(text: str) -> int:
    """Write a whole answer to standard output; returns the exit status of success."""
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0


def drop_output() -> None:
    """Send what is still buffered nowhere, so that Python does not fail on it again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (AttributeError, OSError, ValueError):
        # Closed, or a full disk: Python tries again at its end, and says what failed by exit status 120.
        pass

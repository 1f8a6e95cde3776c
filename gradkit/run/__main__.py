"""`python -m gradkit.run`: reads the command line, watches, runs the script and sets the exit status."""

from __future__ import annotations

import sys

# Python has put the working folder first, where the script may have an `argparse.py` of its own.
_first = None if getattr(sys.flags, "safe_path", False) else sys.path.pop(0)
try:
    from pathlib import Path
    from typing import TYPE_CHECKING

    from gradkit.config.wording import one_line
    from gradkit.errors import GradkitError
    from gradkit.run.children import settings_of_child
    from gradkit.run.imports import own_path
    from gradkit.run.options import parse
    from gradkit.run.program import Program, hide_frames, note_interrupt
    from gradkit.settings import from_data
finally:
    if _first is not None:
        sys.path.insert(0, _first)

if TYPE_CHECKING:
    from gradkit.run.session import Session

USAGE_ERROR = 2
NOT_STARTED = 3
FAILED_ON = 1


def main() -> None:
    """Run the command line of this process.

    Raises:
        SystemExit: With the script's status; 1 by `--fail-on`; 2 for a mistake of the user's; 3 when gradkit could not
            start the script.
        BaseException: What the script raised.
    """
    program, session = _prepare()
    try:
        program.run()
    except BaseException as error:
        if not isinstance(error, SystemExit):
            hide_frames(error)
            if type(error) is KeyboardInterrupt:
                session.at_last = note_interrupt
            raise
        succeeded = error.code is None or (isinstance(error.code, int) and error.code == 0)
        if not (succeeded and session.fails()):
            raise
    else:
        if not session.fails():
            return
    sys.exit(FAILED_ON)


def _prepare() -> tuple[Program, Session]:
    """Everything that can go wrong before the script; ends the process when it does."""
    try:
        state = settings_of_child()
        with own_path():
            command = parse(sys.argv[1:])
        if isinstance(command, str):
            sys.stdout.write(command)
            sys.exit(0)
        program = Program(command.target, command.is_module, command.arguments, command.own)
        program.check()
        with own_path():
            from gradkit.run.children import begin
            from gradkit.run.session import Session
        if state is None:
            session = Session(command.settings)
        else:  # a rank that a watched launcher has started
            session = Session(from_data(state["settings"]), Path(state["parts"]))
        begin(session)
    except GradkitError as error:
        print(f"gradkit.run: {one_line(str(error))}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except Exception as error:  # ours: the script has not begun, so nothing of it is lost
        import traceback

        traceback.print_exc()
        print(f"gradkit.run: could not start the script: {error}", file=sys.stderr)
        sys.exit(NOT_STARTED)
    return program, session


if __name__ == "__main__":
    main()

"""The envelope of every command, in real processes: one line for a mistake, and readers or disks that fail."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ("check", "compare", "experiment", "explain", "train")


def ran(command: str, tail: str = "") -> "subprocess.CompletedProcess[str]":
    line = f"'{sys.executable}' -m gradkit.{command}{tail}"
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_leaves_early_is_no_error(command):
    done = ran(command, " --help | head -c 1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_whose_tables_nobody_reads_goes_on_to_its_own_status():
    program = (
        "import sys; from gradkit.config.console import CommandConsole; console = CommandConsole();"
        " [console.print('a row') for _ in range(20_000)]; sys.stderr.write('went on'); sys.exit(3)"
    )
    line = f"""'{sys.executable}' -c "{program}" | head -n 1; exit ${{PIPESTATUS[0]}}"""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "a row\n", "went on")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_without_its_value_is_one_line(command):
    options = {"compare": "--by", "experiment": "--out", "check": "--cfg", "train": "--package", "explain": "--halp"}
    done = ran(command, f" {options[command]}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"gradkit.{command}: ") and done.stderr.endswith(" See --help.\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_cannot_be_written_is_one_line(command):
    done = ran(command, " --help > /dev/full")
    assert done.returncode == 2
    assert done.stderr == f"gradkit.{command}: the output cannot be written: No space left on device.\n"

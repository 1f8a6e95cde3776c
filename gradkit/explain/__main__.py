"""`python -m gradkit.explain`: prints rules and their pages, and writes the pages of `docs/rules`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import gradkit
from gradkit.config.commands import Parser, answer, say
from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.explain.page import page, stored_page, summary
from gradkit.rules import all_declared

OPTIONS = ("--write-docs", "--help", "--version")

HELP = """\
usage: python -m gradkit.explain [CODE ...]

Prints what a rule reports, why it matters, a program that fails and the same one corrected, when the rule stays quiet,
and what to do. Without a code it lists the rules. CODE is a code such as GK101 or a name such as stale-gradients.

Options
  --write-docs   write docs/rules/*.md of this checkout anew, from the rules and their scenarios
  -h, --help     print this
  --version      print the version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: The arguments, without the program's name; by default those of the process.

    Returns:
        The exit status: 0, or 2 for a mistake of the user's.
    """
    return answer("gradkit.explain", _run, argv)


def _run(arguments: Sequence[str]) -> int:
    return say(_answer(arguments))


def _answer(arguments: Sequence[str]) -> str:
    parser = Parser()
    parser.add_argument("codes", nargs="*")
    parser.add_argument("--write-docs", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--version", action="store_true")
    found, rest = parser.parse_known_args(list(arguments))
    if rest:
        raise ConfigError(f"Unknown option {quoted(rest[0])}.{did_you_mean(rest[0], OPTIONS)} See --help.")
    if found.help or found.version:
        return HELP if found.help else f"gradkit {gradkit.__version__}\n"
    if found.write_docs:
        if found.codes:
            raise ConfigError("--write-docs writes every page; it takes no code.")
        return write_docs(Path(__file__).parents[2])
    if not found.codes:
        return summary()
    return "\n".join(_explained(word) for word in found.codes)


def _explained(word: str) -> str:
    rules = all_declared()
    code = word.upper()
    if code not in rules:
        named = {rule.name: rule.code for rule in rules.values()}
        if word.lower() not in named:
            near = did_you_mean(code, rules) or did_you_mean(word.lower(), named)
            raise ConfigError(f"Unknown rule {quoted(word)}.{near} The rules are {', '.join(rules)}.")
        code = named[word.lower()]
    return stored_page(code) or page(rules[code])


def write_docs(checkout: Path) -> str:
    """Write `docs/rules/*.md` of a checkout; a page without a rule is removed.

    Returns:
        What was done, for the user.

    Raises:
        ConfigError: The folder is no checkout of gradkit: it has no scenarios.
    """
    from gradkit.explain.example import programs_of

    tests = checkout / "tests"
    if not (tests / "scenarios").is_dir():
        raise ConfigError(
            f"--write-docs needs a checkout of gradkit; there is no folder {quoted(str(tests / 'scenarios'))}."
        )
    folder = checkout / "docs" / "rules"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{code.lower()}.md": page(rule, programs_of(code, tests)) for code, rule in all_declared().items()}
    for stale in [path for path in folder.glob("gk*.md") if path.name not in pages]:
        stale.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return f"Wrote {len(pages)} pages to {folder}.\n"


if __name__ == "__main__":
    sys.exit(main())

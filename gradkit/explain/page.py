"""The page of a rule: what its file says, its settings, and a failing and a corrected program; imports no torch."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from gradkit.rules import CheckRule, Declared, Rule, all_declared

SECTIONS = ("Reports", "Why", "Quiet when", "Remedy", "Source")
WIDTH = 100
_PACKAGE = Path(__file__).parents[1]
_STORED = (_PACKAGE / "rules" / "pages", _PACKAGE.parent / "docs" / "rules")
"""Where the pages are: in an installed package, and in a checkout."""


def stored_page(code: str) -> str | None:
    """The page that was written with this version of gradkit; None for a rule whose page was never written."""
    for folder in _STORED:
        path = folder / f"{code.lower()}.md"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


def page(rule: type[Declared], programs: tuple[str, str] | None = None) -> str:
    """A rule's page as Markdown.

    Args:
        rule: The rule.
        programs: A program the rule reports and the same program corrected, where there is such a pair.
    """
    said = rule.page()
    parts = [
        f"# {rule.code} {rule.name}",
        _filled(said["Summary"]),
        f"Severity: {rule.severity.value} at most. Since gradkit {rule.since}.",
    ]
    for section in SECTIONS:
        parts += [f"## {section}", _filled(said[section][:1].upper() + said[section][1:])]
    settings = _settings(rule)
    if settings:
        listed = "\n".join(_item(f"`{name} = {value}`", text) for name, (value, text) in settings.items())
        parts += ["## Settings", f"In `pyproject.toml` under `[tool.gradkit.rules.{rule.code}]`:", listed]
    if programs is not None:
        failing, corrected = programs
        parts += ["## A program that fails", f"```python\n{failing}\n```"]
        parts += ["## The same program, corrected", f"```python\n{corrected}\n```"]
    silence = f"On the reported line: `# gradkit: ignore[{rule.code}]`. For a whole run: `--ignore {rule.code}`."
    if issubclass(rule, CheckRule):
        silence = "A check runs only where it is called: leave out `assert_ok()` and read `verdict` and `findings`."
    parts += ["## To silence it", silence]
    return "\n\n".join(parts) + "\n"


def _settings(rule: type[Declared]) -> Mapping[str, tuple[str, str]]:
    """Name, default as TOML and meaning of each setting; meanings come from the class's docstring."""
    if not issubclass(rule, Rule):
        return {}
    meanings = _attributes(inspect.getdoc(rule) or "")
    return {each.name: (_toml(each.default), meanings.get(each.name, "")) for each in fields(rule)}


def _attributes(docstring: str) -> dict[str, str]:
    _, _, text = docstring.partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        bare = line.strip()
        if not bare:
            break
        indent = len(line) - len(line.lstrip())
        if indent <= 4 and ":" in bare:
            name, _, rest = bare.partition(":")
            found[name] = rest.strip()
        elif name:
            found[name] += f" {bare}"
    return found


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _item(head: str, text: str) -> str:
    return textwrap.fill(f"- {head}: {text}" if text else f"- {head}", WIDTH, subsequent_indent="  ")


def summary() -> str:
    """Every rule with its severity and first sentence, one to a line."""
    lines = [
        f"{code}  {rule.severity.value:<7}  {rule.name:<34}  {rule.page()['Summary']}"
        for code, rule in all_declared().items()
    ]
    return "\n".join(lines) + "\n"

"""What a user can ask of a watched run, checked the same way on a command line and in `[tool.gradkit]`; no torch.

`python -m gradkit.run` reads `pyproject.toml` upward from the working folder; its own options go before it. Every
option is one field of `Settings` and one entry of `KINDS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gradkit.config.wording import quoted
from gradkit.errors import ConfigError, did_you_mean
from gradkit.reading import read_file

FORMATS = ("text", "github")
FAIL_ON = ("never", "error", "warning")
SHOWN = ("warnings", "notes")
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a script is watched and what is done with the findings.

    Attributes:
        report: File for the JSON report; None writes none.
        sarif: File for the report as SARIF 2.1.0; None writes none.
        html: File for the report as a page that opens offline; None writes none.
        format: Form of the findings on standard error.
        select: Rule codes or prefixes to run; None is all.
        ignore: Rule codes or prefixes to leave out.
        fail_on: Least severity that makes the exit status 1; it changes nothing else.
        halt_on: Severity or rule codes at which the offending step raises `HygieneError`; None never does.
        accumulate: Declared micro-batches per optimizer step.
        frozen: Name patterns of parameters declared frozen.
        baseline: File of findings known before, which are not reported again.
        write_baseline: Write the findings of this run to `baseline`.
        deep: Measure every window.
        show: Least severity shown in full on standard error.
        rules: Settings of single rules, by code.
    """

    report: str | None = None
    sarif: str | None = None
    html: str | None = None
    format: str = "text"
    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    fail_on: str = "never"
    halt_on: tuple[str, ...] | None = None
    accumulate: int | None = None
    frozen: tuple[str, ...] = ()
    baseline: str | None = None
    write_baseline: bool = False
    deep: bool = False
    show: str = "warnings"
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _one_of(*choices: str) -> Callable[[Any, str], Any]:
    def checked(value: Any, where: str) -> str:
        if value not in choices:
            expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise ConfigError(f"{where}: expected {expected}, got {quoted(value)}.{did_you_mean(str(value), choices)}")
        return str(value)

    return checked


def _file(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: expected the name of a file, got {quoted(value)}.")
    path = Path(value)
    if path.is_dir() or not path.absolute().parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {quoted(str(path.parent))}"
        raise ConfigError(f"{where}: expected a file in a folder that exists, got {quoted(value)}: {reason}.")
    return str(path.absolute())  # the script may change its working folder


def _words(value: Any, where: str) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) and word.strip() for word in words):
        raise ConfigError(f"{where}: expected a list of texts, got {quoted(value)}.")
    return tuple(part.strip() for word in words for part in word.split(",") if part.strip())


def _codes(value: Any, where: str) -> tuple[str, ...]:
    from gradkit.engine import select_rules  # reads every rule file, so only where a rule is named

    codes = _words(value, where)
    if not codes:
        raise ConfigError(f"{where}: expected rule codes such as GK101, got {quoted(value)}.")
    try:
        select_rules(codes)
    except ConfigError as error:
        raise ConfigError(f"{where}: {str(error).replace(' in select', '')}") from None
    return codes


def _halting(value: Any, where: str) -> tuple[str, ...]:
    words = _words(value, where)
    try:
        _codes([word for word in words if word not in SEVERITIES] or ["GK"], where)
    except ConfigError as error:
        near = did_you_mean(next(word for word in words if word not in SEVERITIES), SEVERITIES)
        raise ConfigError(f"{error} Besides, {where} takes {', '.join(SEVERITIES)}.{near}") from None
    return words


def _count(value: Any, where: str) -> int:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"{where}: expected a whole number of micro-batches per optimizer step of at least 1, got {quoted(value)}."
        )
    return value


def _switch(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: expected true or false, got {quoted(value)}.")
    return value


def _rule_settings(value: Any, where: str) -> dict[str, dict[str, Any]]:
    from gradkit.engine import select_rules

    if not isinstance(value, dict) or not all(isinstance(entry, dict) for entry in value.values()):
        raise ConfigError(f"{where}: expected a table of rule codes, each with its settings, got {quoted(value)}.")
    given = {code: {name: _frozen(entry) for name, entry in entries.items()} for code, entries in value.items()}
    try:
        select_rules(settings=given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {str(error).replace(' in settings', '')}") from None
    return given


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


KINDS: dict[str, Callable[[Any, str], Any]] = {
    "report": _file,
    "sarif": _file,
    "html": _file,
    "format": _one_of(*FORMATS),
    "select": _codes,
    "ignore": _codes,
    "fail-on": _one_of(*FAIL_ON),
    "halt-on": _halting,
    "accumulate": _count,
    "frozen": _words,
    "baseline": _file,
    "write-baseline": _switch,
    "deep": _switch,
    "show": _one_of(*SHOWN),
    "rules": _rule_settings,
}
"""Every key of `[tool.gradkit]`, which is also the option's name, to what checks and converts its value."""
FILES = ("report", "sarif", "html", "baseline")
"""Keys whose values are paths; in a file they are relative to the file's folder."""


def checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values converted, by the names of `Settings`' fields.

    Args:
        values: Keys among `KINDS` and their values.
        where: What a message puts before the key, such as `--` or `pyproject.toml, [tool.gradkit]: `.

    Raises:
        ConfigError: A key is unknown or a value cannot be used.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key not in KINDS:
            raise ConfigError(
                f"{where}{key}: unknown key.{did_you_mean(key, KINDS)} The keys are {', '.join(sorted(KINDS))}."
            )
        found[key.replace("-", "_")] = KINDS[key](value, f"{where}{key}")
    return found


def settings(command_line: Mapping[str, Any], folder: Path | None = None) -> Settings:
    """The settings of a run: defaults, then the nearest `pyproject.toml`, then the command line.

    Args:
        command_line: Option names without dashes and their values; absent where not given.
        folder: Where the search for `pyproject.toml` begins; the working folder when None.

    Raises:
        ConfigError: A key or value cannot be used, or the file cannot be read.
    """
    merged = {**read_pyproject(folder or Path.cwd()), **checked(command_line, "--")}
    result = Settings(**merged)
    if result.write_baseline and result.baseline is None:
        raise ConfigError("--write-baseline: expected --baseline FILE with it, which names the file to write.")
    return result


def read_pyproject(folder: Path) -> dict[str, Any]:
    """What `[tool.gradkit]` of the nearest `pyproject.toml` at or above `folder` says; empty without such a table.

    Raises:
        ConfigError: The file is not TOML, or a key or value cannot be used.
    """
    path = next(
        (each / "pyproject.toml" for each in (folder, *folder.parents) if (each / "pyproject.toml").is_file()), None
    )
    if path is None:
        return {}
    try:
        content = read_file(path) if path.stat().st_size else b""
        if b"gradkit" not in content:  # most files: no TOML reader needs to be loaded
            return {}
        tools = _parse(content.decode("utf-8")).get("tool", {})
    except RecursionError:
        raise ConfigError(f"{path}: cannot be read as TOML: it is nested too deeply.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from None
    table = tools.get("gradkit", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: [tool.gradkit] is no table but {quoted(table)}.")
    table = {
        key: str(path.parent / value) if key in FILES and isinstance(value, str) and value else value
        for key, value in table.items()
    }
    return checked(table, f"{path}, [tool.gradkit]: ")


def _parse(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def to_data(given: Settings) -> dict[str, Any]:
    """The settings as plain data, for another process."""
    return {each.name: getattr(given, each.name) for each in fields(given)}


def from_data(data: Mapping[str, Any]) -> Settings:
    """The inverse of `to_data`, also after a journey through JSON."""
    return Settings(**{name: _frozen(value) for name, value in data.items()})

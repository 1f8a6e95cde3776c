"""Settings from pyproject.toml and the command line are checked by one set of rules, with one clear line each."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkit.errors import ConfigError
from gradkit.settings import KINDS, Settings, checked, from_data, read_pyproject, settings, to_data

GOOD = """\
[project]
name = "x"
[tool.gradkit]
report = "out.json"
sarif = "out.sarif"
html = "out.html"
format = "github"
select = ["GK1", "GK202"]
ignore = "GK102,GK103"
fail-on = "warning"
halt-on = ["error", "GK202"]
accumulate = 4
frozen = ["backbone.*"]
baseline = "known.json"
write-baseline = true
deep = true
show = "notes"
[tool.gradkit.rules.GK101]
allow = ["ema.*"]
"""


def write(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def test_every_key_of_the_file_arrives(tmp_path: Path) -> None:
    found = settings({}, write(tmp_path, GOOD))
    assert found == Settings(
        report=str(tmp_path / "out.json"),
        sarif=str(tmp_path / "out.sarif"),
        html=str(tmp_path / "out.html"),
        format="github",
        select=("GK1", "GK202"),
        ignore=("GK102", "GK103"),
        fail_on="warning",
        halt_on=("error", "GK202"),
        accumulate=4,
        frozen=("backbone.*",),
        baseline=str(tmp_path / "known.json"),
        write_baseline=True,
        deep=True,
        show="notes",
        rules={"GK101": {"allow": ("ema.*",)}},
    )
    assert set(KINDS) == {name.replace("_", "-") for name in to_data(found)}, "every field has a key"


def test_the_nearest_file_counts_and_files_without_the_table_are_passed_by(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    write(tmp_path, "[tool.gradkit]\naccumulate = 2\n")
    assert settings({}, inner).accumulate == 2
    write(tmp_path / "a", "[tool.other]\nx = 1\n")
    assert settings({}, inner).accumulate is None, "the nearest pyproject.toml is this project's"
    assert settings({}, tmp_path).accumulate == 2


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    write(tmp_path, "[tool.gradkit]\naccumulate = 2\nignore = ['GK101']\n")
    found = settings({"accumulate": "8"}, tmp_path)
    assert (found.accumulate, found.ignore) == (8, ("GK101",))


BAD = {
    "fail_on": ("'error'", "unknown key. Did you mean 'fail-on'?"),
    "report": ("3", "expected the name of a file, got 3"),
    "sarif": ("'no/such/folder.sarif'", "there is no folder"),
    "format": ("'gihub'", "expected text or github, got 'gihub'. Did you mean 'github'?"),
    "select": ("['GK1O1']", "Unknown rule 'GK1O1'. Did you mean 'GK101'?"),
    "ignore": ("[]", "expected rule codes such as GK101"),
    "fail-on": ("'warnings'", "expected never, error or warning, got 'warnings'. Did you mean 'warning'?"),
    "halt-on": ("'eror'", "Did you mean 'error'?"),
    "accumulate": ("0", "expected a whole number of micro-batches per optimizer step of at least 1, got 0"),
    "frozen": ("1", "expected a list of texts, got 1"),
    "baseline": ("''", "expected the name of a file, got ''"),
    "write-baseline": ("'yes'", "expected true or false, got 'yes'"),
    "deep": ("1", "expected true or false, got 1"),
    "show": ("'note'", "expected warnings or notes, got 'note'. Did you mean 'notes'?"),
    "rules": ("{GK101 = {alow = 1}}", "GK101 has no setting 'alow'. Did you mean 'allow'?"),
}


@pytest.mark.parametrize("key", BAD)
def test_a_wrong_value_is_told_with_the_file_the_key_and_what_is_right(key: str, tmp_path: Path) -> None:
    value, said = BAD[key]
    write(tmp_path, f"[tool.gradkit]\n{key} = {value}\n")
    with pytest.raises(ConfigError) as caught:
        settings({}, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'pyproject.toml'}, [tool.gradkit]: {key}")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["[tool.gradkit\n", "[tool]\ngradkit = 1\n", "[tool.gradkit]\nx = \xff"])
def test_a_broken_file_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"pyproject\.toml"):
        read_pyproject(tmp_path)


def test_a_baseline_to_write_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--write-baseline: expected --baseline FILE"):
        settings({"write-baseline": True}, tmp_path)


def test_a_file_is_found_after_the_script_has_changed_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert checked({"report": "out.json"}, "--") == {"report": str(tmp_path / "out.json")}


@given(
    st.dictionaries(st.sampled_from(sorted(KINDS)) | st.text(), st.none() | st.booleans() | st.integers() | st.text())
)
def test_any_values_give_settings_or_one_line(values: dict[str, object]) -> None:
    try:
        found = checked(values, "--")
    except ConfigError as error:
        assert str(error).startswith("--")
    else:
        assert from_data(to_data(Settings(**found))) == Settings(**found)

"""The report a person reads: its exact words, what a terminal is spared, and streams that cannot take it."""

import io
import linecache
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from gradkit.findings import Severity
from gradkit.records import Location, RunInfo
from gradkit.report.report import Report
from gradkit.report.text import short
from tests.report.findings import finding, reports

SOURCE = "for batch in loader:\n    loss = model(batch)\n    loss.backward()\n    optimizer.step()\n"
NOTHING = (
    "gradkit: no findings. 0 optimizer steps and 0 backward calls watched, 0 optimizers, 0 parameter tensors, 0 rules"
    " active."
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.py"
    path.write_text(SOURCE)
    linecache.checkcache(str(path))
    return str(path)


def on_terminal(report, monkeypatch, columns="80", **environment):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": columns, **environment}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    report.print(stream)
    return stream.getvalue()


def test_a_finding_is_shown_whole_at_its_line(script):
    whole = finding(
        location=Location(script, 4, "<module>"),
        labels=((Location(script, 3, "<module>"), "new gradients were added here"),),
        count=1234,
        last_step=1300,
        parameters=("a", "b", "c", "d", "e", "f"),
        evidence={"windows_mixed": 7, "cosine": 0.123456, "unknown": None, "clearing": ["hidden"]},
        cost="The update followed the sum.",
        ranks=(0, 3),
    )
    assert Report(findings=[whole], info=RunInfo(steps=1300, backwards=1, optimizers=1, parameters=6)).text() == (
        "error[GK101] stale-gradients: Step 1 of SGD consumed 1 of 2 gradient(s).\n"
        "  --> train.py:4 in <module>\n"
        "    3 |     loss.backward()\n"
        "  > 4 |     optimizer.step()\n"
        "  line 3: loss.backward()  (new gradients were added here)\n"
        "  seen:       1,234 times, steps 1 to 1300\n"
        "  ranks:      0, 3\n"
        "  parameters: a, b, c, d and 2 more\n"
        "  evidence:   windows mixed 7, cosine 0.1235\n"
        "  cost:       The update followed the sum.\n"
        "  remedy:     Clear them.\n"
        "\n"
        "gradkit: 1 error. 1,300 optimizer steps and 1 backward call watched, 1 optimizer, 6 parameter tensors, 0 rules"
        " active.\n"
    )


def test_a_quiet_run_says_what_was_watched():
    assert Report(findings=[]).text() == NOTHING + "\n"


def test_what_could_not_be_seen_stands_below_a_quiet_run():
    gap = finding(rule="GK901", severity=Severity.NOTE, message="A compiled step; this silenced GK203.")
    assert Report(findings=[gap]).text().splitlines()[-1] == "  not seen: A compiled step; this silenced GK203."


def test_notes_are_counted_and_shown_when_asked_for():
    report = Report(findings=[finding(), finding(severity=Severity.NOTE, message="A note.")])
    assert "A note." not in report.text()
    assert "1 note not shown." in report.text()
    assert "note[GK101] stale-gradients: A note." in report.text(notes=True)
    assert "not shown" not in report.text(notes=True)


def test_notes_alone_are_no_findings_to_act_on():
    report = Report(findings=[finding(severity=Severity.NOTE)] * 2)
    assert report.text() == f"{NOTHING} 2 notes not shown.\n"


def test_errors_and_warnings_are_counted_in_words():
    found = [finding(), finding(), finding(severity=Severity.WARNING)]
    assert "gradkit: 2 errors, 1 warning. " in Report(findings=found).text()


def test_what_was_left_out_is_said():
    text = Report(findings=[], suppressed=[finding()], dropped=5, ranks=4).text()
    assert "0 rules active, 4 ranks." in text
    assert "1 finding suppressed." in text
    assert "5 further findings were beyond the limit and are not listed." in text


@pytest.mark.parametrize(("line", "shown"), [(1, [1, 2]), (2, [1, 2, 3]), (4, [3, 4]), (5, []), (99, [])])
def test_the_excerpt_stays_inside_the_file(script, line, shown):
    text = Report(findings=[finding(location=Location(script, line, "f"))]).text()
    assert f"--> train.py:{line} in f" in text
    assert [int(number) for number in re.findall(r"^  [> ] (\d+) \|", text, re.MULTILINE)] == shown


@pytest.mark.parametrize("file", ["gone.py", "<string>", "", "\udcff.py", "folder"])
def test_a_place_that_cannot_be_read_is_named_without_an_excerpt(tmp_path, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    text = Report(findings=[finding(location=Location(file, 3, "f"), labels=((Location(file, 2, "f"), "why"),))]).text()
    assert ":3 in f\n" in text
    assert " | " not in text
    assert "  line 2: (why)\n" in text


def test_a_label_in_another_file_is_named_with_that_file(script):
    other = (Location("other.py", 7, "g"), "made here")
    assert (
        "  other.py:7: (made here)\n"
        in Report(findings=[finding(location=Location(script, 4, "f"), labels=(other,))]).text()
    )


def test_the_framework_between_is_named(script):
    text = Report(findings=[finding(location=Location(script, 4, "f", "lightning"))]).text()
    assert "--> train.py:4 in f, called by lightning\n" in text


def test_paths_below_the_working_folder_are_short_and_others_stay(tmp_path, monkeypatch):
    inside = tmp_path / "in"
    inside.mkdir()
    monkeypatch.chdir(inside)
    assert short(str(inside / "a" / "b.py")) == str(Path("a") / "b.py")
    assert short(str(tmp_path / "b.py")) == str(tmp_path / "b.py")
    assert short("<stdin>") == "<stdin>"


# The terminal


def test_a_terminal_gets_colour_and_a_file_gets_none(monkeypatch):
    report = Report(findings=[finding()])
    assert "\x1b[1;31merror[GK101]" in on_terminal(report, monkeypatch)
    assert "\x1b" not in report.text()


@pytest.mark.parametrize(("value", "coloured"), [("1", False), ("anything", False), ("", True)])
def test_no_color_takes_the_colours_away_unless_it_is_empty(monkeypatch, value, coloured):
    text = on_terminal(Report(findings=[finding()]), monkeypatch, NO_COLOR=value)
    assert bool(re.search("\x1b\\[[0-9;]*3[0-7]m", text)) is coloured


def test_a_dumb_terminal_gets_plain_text(monkeypatch):
    assert "\x1b" not in on_terminal(Report(findings=[finding()]), monkeypatch, TERM="dumb")


@pytest.mark.parametrize("columns", ["20", "80", "400"])
def test_no_line_is_broken_by_us_whatever_the_width(monkeypatch, columns):
    """Paths and numbers can be copied whole; the terminal wraps them itself."""
    report = Report(findings=[finding(message="word " * 100 + "end.")])
    text = on_terminal(report, monkeypatch, columns, TERM="dumb")
    assert text == report.text()
    assert "word " * 100 + "end.\n" in text


def test_the_text_off_a_terminal_does_not_depend_on_the_shells_size(monkeypatch):
    report = Report(findings=[finding(message="word " * 100)])
    texts = set()
    for columns in ("20", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        texts.add(report.text())
    assert len(texts) == 1


def test_square_brackets_are_text_and_no_markup():
    assert (
        "[bold]x[/bold] [/] [link=file:///]"
        in Report(findings=[finding(message="[bold]x[/bold] [/] [link=file:///]")]).text()
    )


@pytest.mark.parametrize("field", ["message", "cost", "remedy", "parameters", "evidence", "file", "function", "note"])
def test_nothing_a_program_is_called_commands_the_terminal(field):
    hostile = "\x1b]0;title\x07 \x1b[2J \x9b31m \u202egnp.exe\u202c \u2066x\u2069 \x00"
    place = Location(
        hostile.replace("\x00", "") if field == "file" else "a.py", 1, hostile if field == "function" else "f"
    )
    values = {"parameters": (hostile,), "evidence": {hostile: hostile}}
    made = finding(
        location=place,
        labels=((place, hostile if field == "note" else ""),),
        **({field: values.get(field, hostile)} if field not in ("file", "function", "note") else {}),
    )
    text = Report(findings=[made]).text()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "gnp.exe" in text
    assert "\N{SYMBOL FOR ESCAPE}" in text


def test_source_lines_do_not_command_the_terminal_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("x = '\x1b[2J'  # \u202eevil\u202c\n", encoding="utf-8")
    text = Report(findings=[finding(location=Location(str(tmp_path / "a.py"), 1, "f"))]).text()
    assert "x = '\N{SYMBOL FOR ESCAPE}[2J'  # \ufffdevil\ufffd" in text


def test_words_of_every_script_stay_as_they_are():
    words = "שלום مرحبا 梯度 градиент é e\u0301 👩‍🔬"
    assert words in Report(findings=[finding(message=words)]).text()


def test_a_name_of_ten_thousand_characters_is_shown_on_one_line():
    name = "layer." * 2000
    text = Report(findings=[finding(parameters=(name,))]).text()
    assert f"  parameters: {name}\n" in text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reports())
def test_every_report_can_be_written_as_utf_8_without_commands(report):
    text = report.text(notes=True)
    text.encode("utf-8")
    assert "\x1b" not in text
    assert text.count("error[") >= sum(each.severity is Severity.ERROR for each in report.findings)
    assert "gradkit: " in text


# Streams


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "a ? b"), ("cp1252", "a é b"), ("utf-8", "a é b")])
def test_a_stream_that_lacks_a_character_gets_the_rest_of_the_report(encoding, shown):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Report(findings=[finding(message="a é b")]).print(stream)
    stream.flush()
    written = stream.buffer.getvalue().decode(encoding)
    assert f"stale-gradients: {shown}\n" in written
    assert "gradkit: 1 error." in written


def test_a_stream_that_escapes_what_it_lacks_is_left_to_do_so():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    Report(findings=[finding(message="a é b")]).print(stream)
    stream.flush()
    assert b"a \\xe9 b" in stream.buffer.getvalue()


def test_a_closed_stream_is_an_error_of_its_own_kind():
    """`Monitor.print` and the runner catch it: at the end of a process nobody may be left to read."""
    stream = io.StringIO()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        Report(findings=[finding()]).print(stream)


def test_standard_error_is_the_default_and_standard_output_stays_the_scripts(capsys):
    Report(findings=[]).print()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", NOTHING + "\n")


def test_the_report_as_data_is_the_json_report():
    from gradkit.report.json_report import to_json

    report = Report(findings=[finding()])
    assert report.to_json() == to_json(report)

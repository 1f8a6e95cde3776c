"""The command compares a thousand runs in time, says what it left out, and answers mistakes in one line."""

import csv
import io
import json
import os
import subprocess
import sys

import pytest

from gradkit.compare.__main__ import main
from tests.compare.folders import configured, finding, write


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    for fault, worse in (("none", 0.0), ("unzeroed", 0.5)):
        for seed in range(3):
            content = configured(seed, 0.1 + worse, fault__name=fault)
            content["findings"] = [finding()] if worse else []
            write(tmp_path / "sweep" / f"{fault}-{seed}", content)
    write(tmp_path / "sweep" / "cut", "{")
    write(tmp_path / "sweep" / "killed", configured(9) | {"status": "running"})
    return tmp_path / "sweep"


def test_the_terminal_says_what_differs_what_it_did_and_what_was_left_out(sweep, capsys):
    assert main([str(sweep)]) == 0
    out = capsys.readouterr().out
    assert "6 completed runs in 2 arms; reference: fault=none" in out
    assert "+0.5 ± 0" in out
    assert "0 of 3" in out
    assert "GK101" in out and "3 of 3 (51)" in out
    assert "killed: running" in out
    assert "cut" in out and "cannot be read" in out


def test_json_and_csv_hold_every_run(sweep, capsys, tmp_path):
    assert main([str(sweep), "--json", str(tmp_path / "c.json"), "--csv", "-"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 7
    assert {row["fault.name"] for row in rows} == {"none", "unzeroed"}
    assert [row["test.log_loss"] for row in rows if row["status"] == "running"] == [""]
    document = json.loads((tmp_path / "c.json").read_text())
    assert [len(arm["runs"]) for arm in document["arms"]] == [3, 3]
    assert [each["status"] for each in document["unfinished"]] == ["running"]
    assert len(document["skipped"]) == 1
    (against,) = [
        row["against_reference"]
        for row in document["metrics"]
        if row["metric"] == "test.log_loss" and row["arm"] == "fault=unzeroed"
    ]
    assert (against["pairs"], against["higher"]) == (3, 3)


def test_a_reference_outside_the_runs_joins_them(sweep, tmp_path, capsys):
    outside = write(tmp_path / "outside", configured(0, 0.2, optimizer__lr=0.7))
    assert main([str(sweep), "--reference", str(outside)]) == 0
    assert "reference: optimizer.lr=0.7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name at least one run folder"),
        (["SWEEP", "--bye", "x"], "Did you mean '--by'"),
        (["SWEEP", "--by", "optimiser.lr"], "Did you mean 'optimizer.lr'"),
        (["SWEEP", "--best", "-1"], "--best"),
        (["SWEEP", "--json", "-", "--csv", "-"], "cannot share"),
        (["SWEEP", "--json", "no/such/folder/x.json"], "there is no folder"),
        (["SWEEP", "--reference", "SWEEP"], "it holds 7 runs"),
        (["SWEEP/cut"], "No run could be read"),
        (["SWEEP/nothing"], "There is no run folder"),
    ],
)
def test_a_mistake_is_answered_in_one_line_with_status_2(sweep, capsys, arguments, said):
    assert main([each.replace("SWEEP", str(sweep)) for each in arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_hostile_names_reach_the_terminal_as_text(tmp_path, capsys):
    hostile = "[red]x[/red]</script>\x1b[31m\u202e"
    write(tmp_path / "a[b]", configured(0, model__name=hostile))
    write(tmp_path / "c", configured(0))
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "[red]" in out
    assert "\x1b[31m" not in out


def test_a_thousand_runs_take_less_than_ten_seconds(tmp_path):
    """Real manifests are some 8 kB; the process is a fresh one and does not load torch.

    Measured in processor time, of which a waiting machine takes as much as a quiet one.
    """
    features = [f"feature {number}" for number in range(250)]
    for number in range(1000):
        lr, seed = 10.0 ** (number // 5 % 4 - 3), number % 5
        content = configured(seed, 1 / (1 + number), optimizer__lr=lr, trainer__batch_size=2 ** (number // 20))
        content["data"] = {"features": features}
        write(tmp_path / "many" / str(number), content, events=[])
    assert (tmp_path / "many" / "0" / "run.json").stat().st_size > 6_000
    code = (
        "import sys; from gradkit.compare.__main__ import main; status = main(sys.argv[1:]);"
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "many"), "--json", str(tmp_path / "out.json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    after = os.times()
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    assert done.returncode == 0, done.stderr
    assert "1,000 completed runs in 200 arms" in done.stdout
    assert seconds < 10
    assert done.stdout.count("\n") < 400
    assert "the best of 200 arms" in " ".join(done.stdout.split())

"""`python -m gradkit.check`: one line and status 2 for every mistake, before torch is loaded; tables and files."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gradkit.check import CheckInputError, read_results
from gradkit.check.__main__ import main
from gradkit.check.command.schema import TARGETS


def run(capsys, *arguments):
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


MISTAKES = {
    ("target=logistic_textbok",): "Did you mean 'logistic_textbook'",
    ("dtype=float8",): "expected one of float64, float32, bfloat16, float16, got 'float8'",
    ("scale=0",): "expected a number > 0",
    ("scale=abc",): "scale: expected a list of numbers",
    ("sclae=1",): "Unknown key 'sclae'. Did you mean 'scale'?",
    ("square",): "Did you mean 'target=square'?",
    ("seed=1,2",): "seed takes one value",
    ("seed=1", "seed=2"): "seed is given twice",
    ("order=3",): "order: expected a number >= 1, <= 2",
    ("replays=nan",): "replays: expected a whole number",
    ("methods=[]",): "methods: expected at least one value",
    ("methods=backward",): "expected one of manual, reverse, forward",
    ("device=tpu",): "device: expected cpu, cuda or cuda:N",
    ("chart=x.pdf",): "expected a file ending in .svg, .png or .html",
    ("json=no/such/folder/x.json",): "json: there is no folder 'no/such/folder'",
    ("target=os.path.join",): "would run code of 'os'; if you trust it, add: --trust os",
    ("--trsut", "x"): "Unknown option '--trsut'. Did you mean '--trust'?",
    ("order=2", "methods=manual"): "order=2 checks reverse and forward",
    ("target={",): "cannot be read",
    ("scale=range(1,1e12)",): "gives more than 1000 values",
    ("scale=1e400",): "finite number",
    ("target=",): "unknown name ''",
    ("dtype=null",): "dtype",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_mistake_is_one_line_and_status_two(capsys, arguments):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert MISTAKES[arguments] in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["target=logistc"], ["dtype=float8"]])
def test_answers_without_torch(arguments):
    script = (
        "import sys; from gradkit.check.__main__ import main; status = main(sys.argv[1:]);"
        "sys.exit(100 if 'torch' in sys.modules else status)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if arguments == ["--help"] else 2)


def test_help_names_every_target_and_key(capsys):
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert all(name in out for name in TARGETS)
    assert "seed         0 " in out


def test_cfg_prints_the_configuration(capsys):
    status, out, _ = run(capsys, "--cfg", "job", "scale=1,2")
    assert status == 0
    assert "scale:\n- 1.0\n- 2.0\n" in out


def test_device_that_is_not_there_is_one_line(capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = run(capsys, "device=cuda")
    assert status == 2
    assert err == "gradkit.check: device=cuda: torch sees no CUDA device here; use device=cpu.\n"


def test_sweep_gives_one_table_a_chart_of_digits_and_files(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, err = run(
        capsys, "target=logistic_textbook,logistic_fused", "dtype=float32,bfloat16", "scale=1,40",
        "methods=manual", f"json={tmp_path}/r.json", f"chart={tmp_path}/r.svg",
    )  # fmt: skip
    assert err == ""
    assert status == 1
    assert "right digits of the gradient over the scale" in out
    data = json.loads((tmp_path / "r.json").read_text())
    verdicts = {(each["target"], each["dtype"], each["scale"]): each["verdict"] for each in data["results"]}
    assert len(verdicts) == 8
    for (target, _, scale), verdict in verdicts.items():
        assert verdict == ("fail" if target == "logistic_textbook" and scale == 40 else "pass")
    assert (tmp_path / "r.svg").read_text().startswith("<svg")


def test_sweep_is_one_line_a_cell_with_the_reasons_below_in_eighty_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = "target=logistic_textbook,logistic_fused"
    _, out, _ = run(capsys, names, "dtype=float32,bfloat16", "scale=1,40", "methods=manual", "replays=4")
    lines = out.splitlines()
    assert lines[0].split() == ["target", "dtype", "scale", "max", "rel", "of", "bound", "verdict"]
    cells = [(line.split()[0], line.split()[1], line.split()[2], line.split()[5]) for line in lines[1:9]]
    assert cells == [
        (name, dtype, scale, "fail" if name == "logistic_textbook" and scale == "40" else "pass")
        for name in ("logistic_textbook", "logistic_fused")
        for dtype in ("float32", "bfloat16")
        for scale in ("1", "40")
    ]
    assert max(map(len, lines)) <= 80
    assert "`div` gave inf" in " ".join(lines[9:])


def test_lines_of_a_sweep_are_printed_as_it_goes(capsys, monkeypatch):
    from gradkit.check.command import answer

    seen, examined = [], answer._examined

    def noting(*arguments):
        seen.append(capsys.readouterr().out.count("\n"))
        return examined(*arguments)

    monkeypatch.setattr(answer, "_examined", noting)
    run(capsys, "target=square", "dtype=float64,float32", "replays=4")
    assert seen == [1, 1]  # the heading before the first, the first cell's line before the second


def test_results_are_read_back_as_they_were(capsys, tmp_path):
    path = tmp_path / "r.json"
    run(capsys, "target=worked_example", "dtype=bfloat16,float32", "replays=4", f"json={path}")
    assert "nan" not in path.read_text().split('"reason"')[0]
    coarse, fine = read_results(path)
    assert (coarse.verdict, fine.verdict) == ("fail", "pass")
    assert str(coarse).startswith("worked_example, bfloat16, scale 1: fail")
    assert str(coarse.lines[0].measured["value"]) == "nan"
    assert coarse.lines[0].measured["index"] == ()
    assert coarse.findings[0].rule == "GK601"
    assert fine.table().row_count == len(fine.lines)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}', '{"schema_version": 1}', "[" * 60_000])
def test_file_that_holds_no_results_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(CheckInputError) as caught:
        read_results(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckInputError, match="is no file"):
        read_results(tmp_path)


@pytest.mark.parametrize(("fail_on", "status"), [("fail", 1), ("never", 0)])
def test_exit_status_follows_the_verdict(capsys, fail_on, status):
    arguments = ("target=worked_example", "dtype=bfloat16", "methods=manual", f"fail_on={fail_on}")
    assert run(capsys, *arguments)[0] == status


def test_target_of_the_users_own_needs_trust(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine_for_check.py").write_text(
        "import torch\n"
        "def cube(scale):\n"
        "    x = torch.tensor([1.0, 2.0]) * scale\n"
        "    return {'fn': lambda x: (x**3).sum(), 'inputs': (x,), 'manual': lambda x: 3 * x**2}\n"
        "def wrong(scale):\n"
        "    return dict(cube(scale), manual=lambda x: 2 * x**2)\n"
        "def nothing(scale):\n"
        "    return 1\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert "--trust mine_for_check" in run(capsys, "target=mine_for_check.cube")[2]
    trusted = ("--trust", "mine_for_check")
    assert run(capsys, "target=mine_for_check.cube", *trusted)[0] == 0
    assert run(capsys, "target=mine_for_check.wrong", *trusted)[0] == 1
    status, _, err = run(capsys, "target=mine_for_check.nothing", *trusted)
    assert status == 2
    assert "expected a dictionary with fn and inputs" in err


def test_second_order_runs(capsys):
    assert run(capsys, "target=sine_of_square", "order=2", "dtype=float64")[0] == 0


def test_importing_the_package_does_not_import_torch():
    code = "import sys, gradkit.check; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

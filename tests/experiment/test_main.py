"""The command runs what is missing, goes on after an interruption, and exits 1 when a claim fails."""

import json
import os
import signal
import subprocess
import sys

import pytest

from gradkit.experiment import runner
from gradkit.experiment.__main__ import main
from gradkit.experiment.locate import shipped
from gradkit.experiment.programs import saturation
from tests.experiment.writing import write

QUICKEST = "accumulation"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results(out):
    return json.loads((out / "results" / "results.json").read_text())


def test_everything_is_run_once_and_written_with_figures_and_report(here, capsys):
    write(here / "small")
    assert main(["small"]) == 0
    out = here / "outputs" / "experiments" / "small"
    assert "12 runs of 4 arms, 12 to do" in capsys.readouterr().out
    document = results(out)
    assert document["holds"] is True
    assert [len(arm["values"]) for arm in document["arms"]] == [3, 3, 3, 3]
    assert {"versions", "date", "platform"} <= document.keys()
    assert (out / "results" / "share.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "results" / "share.svg").read_text()
    page = (out / "results" / "report.html").read_text()
    assert "The textbook form breaks." in page
    assert len(page) < 3_000_000
    before = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    assert main(["small"]) == 0
    assert "12 runs of 4 arms, 0 to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("run.json")} == before
    assert main(["small", "--fresh", "--no-report"]) == 0
    assert "12 to do" in capsys.readouterr().out


def test_other_settings_are_other_runs_and_the_first_are_kept(here, capsys):
    write(here / "small")
    assert main(["small", "--no-report"]) == 0
    assert main(["small", "--no-report", "batch=8"]) == 0
    assert "12 to do" in capsys.readouterr().out.split("written")[1]
    assert main(["small", "--no-report"]) == 0
    assert " 0 to do" in capsys.readouterr().out


def test_a_claim_that_fails_ends_with_status_1(here, capsys):
    wrong = {"say": "The sound form breaks.", "arm": "fused/100", "metric": "non_finite", "above": 0}
    write(here / "small", claims=[wrong])
    assert main(["small", "--no-report"]) == 1
    out = capsys.readouterr().out
    assert "FAILS  The sound form breaks." in out
    assert "0 of 1 claims hold" in out
    assert results(here / "outputs" / "experiments" / "small")["holds"] is False


def test_a_run_that_fails_is_named_and_the_others_go_on(here, capsys, monkeypatch):
    from gradkit.errors import DataError

    real = saturation.run

    def failing(overrides, seed, folder):
        if seed == 1:
            raise DataError("the table has no rows") if "scale=1" in overrides else ZeroDivisionError("a fault")
        real(overrides, seed, folder)

    monkeypatch.setattr(saturation, "run", failing)
    write(here / "small", claims=[])
    assert main(["small", "--no-report"]) == 1
    out = capsys.readouterr().out
    assert "the table has no rows" in out
    assert "ZeroDivisionError: a fault" in out
    assert len([*(here / "outputs").rglob("traceback.txt")]) == 2
    document = results(here / "outputs" / "experiments" / "small")
    assert len(document["failures"]) == 4
    assert [sorted(arm["values"]) for arm in document["arms"]] == [["0", "2"]] * 4
    monkeypatch.setattr(saturation, "run", real)
    assert main(["small", "--no-report"]) == 0
    assert "4 to do" in capsys.readouterr().out


def test_it_goes_on_after_it_was_killed(here):
    write(here / "small", seeds=400, claims=[], figures=[])
    command = [sys.executable, "-m", "gradkit.experiment", "small", "--no-report"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here)
    for line in child.stdout:
        if line.startswith("  25 of 1600"):
            break
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=30)
    child.stdout.close()
    runs = here / "outputs" / "experiments" / "small" / "runs"
    done = sum(json.loads(path.read_text())["status"] == "completed" for path in runs.rglob("run.json"))
    assert done >= 24
    # What the killed process left half done is run again, what it had done is not.
    half = next(runs.rglob("run.json"))
    half.write_text(half.read_text()[:100])
    write(here / "small", seeds=8, claims=[], figures=[])
    said = subprocess.run(command, capture_output=True, text=True, cwd=here, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    assert "32 runs of 4 arms" in said.stdout
    assert len(results(runs.parent)["arms"][0]["values"]) == 8


def test_a_dry_run_starts_nothing(here, capsys):
    write(here / "small")
    assert main(["small", "--dry-run"]) == 0
    assert "12 runs, 0 done, 12 to do; nothing was started." in capsys.readouterr().out
    assert not (here / "outputs").exists()


def test_a_training_arm_is_composed_before_anything_runs_and_torch_is_not_loaded(here):
    write(
        here / "e",
        program="train",
        common=[],
        arms={"a": ["optimizer=adma"]},
        vary=None,
        claims=[],
        figures=[],
        metrics=None,
    )
    code = (
        "import sys; from gradkit.experiment.__main__ import main; status = main(['e']);"
        "print('torch' in sys.modules); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=here, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout.strip() == "False"
    assert "arm a:" in done.stderr and "adam" in done.stderr
    assert done.stderr.count("\n") == 1


def test_training_runs_give_curves_and_findings_in_process_and_through_a_launcher(here, capsys):
    quick = ["trainer.max_steps=6", "watch=deep", "trainer.evaluate_every=100"]
    claims = [
        {"say": "Found.", "arm": "never", "finding": "GK101"},
        {"say": "Not found.", "arm": "always", "absent": "*"},
        {"say": "Larger.", "arm": "never", "metric": "norm", "above": "always"},
    ]
    settings = {
        "common": quick,
        "arms": {"always": ["fault=none"], "never": ["fault=unzeroed"]},
        "vary": None,
        "seeds": 2,
    }
    settings |= {"metrics": {"norm": "last of window.grad_norm_l2", "early": "at 3 of loss"}, "claims": claims}
    settings |= {"figures": [{"name": "norm", "title": "Norm", "curve": "window.grad_norm_l2"}], "program": "train"}
    write(here / "training", **settings)
    assert main(["training"]) == 0
    document = results(here / "outputs" / "experiments" / "training")
    assert document["arms"][1]["findings"] == {"0": ["GK101"], "1": ["GK101"]}
    assert set(document["arms"][0]["values"]["0"]) == {"norm", "early"}
    assert main(["training", "--no-report", "--out", "other", "--launcher", "basic"]) == 0
    assert results(here / "other")["arms"] == document["arms"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name an experiment"),
        (["unzerod"], "Did you mean 'unzeroed'"),
        (["nothing/here"], "There is no experiment"),
        (["small", "fresh"], "not KEY=VALUE"),
        (["small", "--frsh"], "Did you mean '--fresh'"),
        (["small", "batc=3"], "Did you mean 'batch'"),
        (["small", "seed=3"], "the seeds of the experiment's file"),
        (["small", "batch=0"], "batch: expected a number >= 1"),
        (["small", "batch=many"], "batch: expected a whole number"),
        (["small", "--out", "small/experiment.yaml/x"], "--out: cannot make the folder"),
        (["x" * 5000], "names no folder"),
    ],
)
def test_a_mistake_is_answered_in_one_line_with_status_2(here, capsys, arguments, said):
    write(here / "small")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_link_in_place_of_a_run_folder_is_not_followed(here, tmp_path_factory, capsys):
    write(here / "small", claims=[], figures=[])
    assert main(["small", "--no-report"]) == 0
    run = next((here / "outputs").rglob("seed-0"))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").write_text("x")
    for path in run.iterdir():
        path.unlink()
    run.rmdir()
    run.symlink_to(elsewhere)
    main(["small", "--no-report"])
    assert (elsewhere / "precious").exists()


def test_the_hash_tells_programs_and_settings_apart_and_not_their_order():
    first = runner.config_hash("train", {"a": 1, "b": {"c": 2}})
    assert first == runner.config_hash("train", {"b": {"c": 2}, "a": 1})
    assert first != runner.config_hash("train", {"a": 1, "b": {"c": 3}})
    assert first != runner.config_hash("inference", {"a": 1, "b": {"c": 2}})


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_experiment_is_composed_and_has_claims_at_least_five_seeds_and_quick_settings(name):
    from gradkit.experiment.reading import read_experiment
    from gradkit.experiment.runner import plan

    full, quick = read_experiment(shipped()[name]), read_experiment(shipped()[name], quick=True)
    assert len(full.seeds) >= 5
    assert full.claims and quick.claims and full.figures
    assert all(figure.alt for figure in full.figures)
    assert len(plan(quick, shipped()[name] / "runs")) < 40


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != QUICKEST)) for name in shipped()]
)
def test_the_quick_settings_of_every_shipped_experiment_hold(name, here):
    before = os.times()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gradkit.experiment", name, "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    # All five together have three minutes; of processor time, since a test machine may have other work.
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    assert used < 180 / len(shipped())
    assert (here / "outputs" / "experiments" / name / "quick" / "report.html").exists()

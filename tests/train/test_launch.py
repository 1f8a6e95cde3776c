"""Runs through Hydra in real processes; the job itself is a stand-in that needs no torch (see command.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradkit.runs.claims import claimed
from tests.train.command import environment, train


@pytest.fixture
def stand_in(tmp_path) -> Path:
    return tmp_path / "stand_in"


@pytest.fixture
def work(tmp_path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def manifests(folder: Path) -> dict[str, dict]:
    """Every run below `folder`, by its path."""
    found = sorted(folder.rglob("run.json"))
    return {path.parent.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in found}


def test_run_folder_has_date_time_and_id_and_the_composed_configuration(work, stand_in):
    ran = train("seed=3", "model=mlp", cwd=work, stand_in=stand_in)
    assert (ran.status, ran.err) == (0, "")
    ((folder, manifest),) = manifests(work).items()
    top, date, name = folder.split("/")
    assert (top, len(date), len(name)) == ("outputs", len("2026-01-31"), len("12-00-00-0123abcd"))
    assert manifest["overrides"] == ["seed=3", "model=mlp"]
    assert (manifest["config"]["trainer"]["seed"], manifest["config"]["model"]["name"]) == (3, "mlp")
    assert manifest["cwd"] == str(work)
    assert sorted(path.name for path in (work / folder).iterdir()) == [".hydra", ".lock", "run.json"]
    assert (work / folder / ".hydra" / "overrides.yaml").read_text() == "- seed=3\n- model=mlp\n"


def test_torch_is_not_loaded_before_the_job(work, stand_in):
    train(cwd=work, stand_in=stand_in)
    assert [manifest["torch"] for manifest in manifests(work).values()] == [False]


def test_eight_runs_started_together_have_eight_folders(work, stand_in):
    command = [sys.executable, "-m", "gradkit.train"]
    variables = environment(stand_in)
    started = [
        subprocess.Popen([*command, f"seed={seed}"], cwd=work, env=variables, stdout=subprocess.DEVNULL)
        for seed in range(8)
    ]
    assert [process.wait(timeout=120) for process in started] == [0] * 8
    assert sorted(manifest["config"]["seed"] for manifest in manifests(work).values()) == list(range(8))


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]])
def test_failed_runs_of_a_sweep_are_named_and_the_others_go_on(launcher, work, stand_in):
    ran = train(
        "-m",
        "seed=0,1,2,3",
        *launcher,
        cwd=work,
        stand_in=stand_in,
        STAND_IN_CRASH="1",
        STAND_IN_USER_ERROR="2",
    )
    assert ran.status == 1
    assert ran.err.splitlines()[-1] == "gradkit.train: 2 of 4 runs of the sweep failed: 1 (seed=1); 2 (seed=2)"
    assert "the table has no rows" in ran.err
    assert "ZeroDivisionError: a fault in the model" in ran.err
    done = manifests(work)
    assert [path.rpartition("/")[2] for path in done] == ["0", "3"]
    assert [manifest["config"]["seed"] for manifest in done.values()] == [0, 3]


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]])
def test_sweep_ends_well_and_trust_reaches_every_job(launcher, work, stand_in):
    package = work / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("class Net: pass\n")
    arguments = ["-m", "seed=0,1", "model=custom", "model.target=mine.Net", *launcher]
    ran = train(*arguments, "--trust", "mine", cwd=work, stand_in=stand_in)
    assert (ran.status, ran.err) == (0, "")
    done = manifests(work)
    assert [manifest["trust"] for manifest in done.values()] == [["mine"]] * 2
    assert len({path.rpartition("/")[0] for path in done}) == 1
    assert ran.out.splitlines()[0].startswith("run ")
    if launcher:
        # They ran elsewhere: the workers know schemas and resolver without having seen `main`.
        assert all("joblib" in str(manifest["argv"]) for manifest in done.values())
    refused = train(*arguments, cwd=work, stand_in=stand_in)
    assert (refused.status, len(manifests(work))) == (2, 2)
    assert "add: --trust mine" in refused.err


def test_trust_cannot_come_from_a_file_or_a_stored_run(work, stand_in):
    (work / "mine.py").write_text("class Net: pass\n")
    arguments = ["model=custom", "model.target=mine.Net"]
    assert train(*arguments, "--trust=mine", cwd=work, stand_in=stand_in).status == 0
    (run,) = manifests(work)
    again = train(f"trainer.resume={run}", cwd=work, stand_in=stand_in, GRADKIT_TRUST="mine")
    assert again.status == 2
    assert "add: --trust mine" in again.err
    assert train(f"trainer.resume={run}", "--trust", "mine", cwd=work, stand_in=stand_in).status == 0


def test_resume_runs_in_place_and_leaves_the_first_hydra_folder(work, stand_in):
    train("seed=3", "trainer.epochs=2", cwd=work, stand_in=stand_in)
    (run,) = manifests(work)
    before = (work / run / ".hydra" / "overrides.yaml").read_text()
    ran = train(f"trainer.resume={run}", "trainer.epochs=4", cwd=work, stand_in=stand_in)
    assert (ran.status, ran.err) == (0, "")
    assert list(manifests(work)) == [run]
    manifest = manifests(work)[run]
    assert manifest["config"]["trainer"]["epochs"] == 4
    assert manifest["overrides"] == ["seed=3", f"trainer.resume={run}", "trainer.epochs=4"]
    assert (work / run / ".hydra" / "overrides.yaml").read_text() == before


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and what is in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_sweep_into_a_folder_that_holds_runs_is_refused_and_touches_nothing(work, stand_in):
    assert train("-m", "seed=0,1", "hydra.sweep.dir=out", cwd=work, stand_in=stand_in).status == 0
    before = contents(work)
    again = [["-m", "seed=2,3"], ["-m", "seed=2,3", "hydra.sweep.subdir=new-${hydra.job.num}"], ["-m", "seed=5"]]
    for arguments in again:
        ran = train(*arguments, "hydra.sweep.dir=out", cwd=work, stand_in=stand_in)
        assert (ran.status, ran.err.count("\n"), ran.out) == (2, 1, "")
        assert "holds a" in ran.err or "holds runs" in ran.err
    assert contents(work) == before


def test_a_sweep_whose_folders_say_what_differs_can_be_added_to(work, stand_in):
    pattern = ["hydra.sweep.dir=out", "hydra.sweep.subdir=seed-${seed}"]
    assert train("-m", "seed=0,1", *pattern, cwd=work, stand_in=stand_in).status == 0
    assert train("-m", "seed=1,2", *pattern, cwd=work, stand_in=stand_in).status == 2
    assert train("-m", "seed=2,3", *pattern, cwd=work, stand_in=stand_in).status == 0
    assert [*manifests(work)] == [f"out/seed-{seed}" for seed in range(4)]
    assert manifests(work)["out/seed-3"]["config"]["seed"] == 3


def test_a_second_writer_of_a_run_or_a_sweep_is_refused_and_touches_nothing(work, stand_in):
    train("seed=3", "hydra.run.dir=run", cwd=work, stand_in=stand_in)
    with claimed(work / "run", going_on=True), claimed(work / "new"):
        before = contents(work)
        for arguments in (["trainer.resume=run"], ["hydra.run.dir=new"], ["-m", "seed=0,1", "hydra.sweep.dir=new"]):
            ran = train(*arguments, cwd=work, stand_in=stand_in)
            assert (ran.status, ran.err.count("\n")) == (2, 1)
            assert f"is being written by process {os.getpid()}" in ran.err
        assert contents(work) == before


def test_the_folder_of_a_run_may_be_named_after_its_keys(work, stand_in):
    ran = train("seed=3", "model=mlp", "hydra.run.dir=${seed}-${model.name}", cwd=work, stand_in=stand_in)
    assert (ran.status, [*manifests(work)]) == (0, ["3-mlp"])


def test_evaluation_has_its_own_folder_below_the_run(work, stand_in):
    train("seed=3", cwd=work, stand_in=stand_in)
    (run,) = manifests(work)
    ran = train("mode=evaluate", f"run={run}", "inference=detach", cwd=work, stand_in=stand_in)
    assert (ran.status, ran.err) == (0, "")
    (folder,) = set(manifests(work)) - {run}
    assert folder.startswith(f"{run}/evaluations/")
    assert manifests(work)[folder]["config"]["inference"]["name"] == "detach"
    refused = train("mode=evaluate", f"run={folder}", cwd=work, stand_in=stand_in)
    assert refused.status == 2
    assert "is an evaluation" in refused.err


def test_users_error_of_the_job_is_one_line_and_a_fault_shows_its_traceback(work, stand_in):
    ran = train("seed=2", cwd=work, stand_in=stand_in, STAND_IN_USER_ERROR="2")
    assert (ran.status, ran.err) == (2, "gradkit.train: the table has no rows\n")
    ran = train("seed=1", cwd=work, stand_in=stand_in, STAND_IN_CRASH="1")
    assert ran.status == 1
    assert ran.err.count("Traceback") == 1
    assert ran.err.splitlines()[-1] == "ZeroDivisionError: a fault in the model"


def test_other_ranks_leave_no_folder(work, stand_in):
    ran = train("seed=3", cwd=work, stand_in=stand_in, RANK="1", WORLD_SIZE="2")
    assert ran.status == 0
    # The stand-in writes its manifest where it is told to: here, which was there already.
    assert [path.name for path in work.iterdir()] == ["run.json"]


def test_dry_run_and_refused_sweeps_write_nothing(work, stand_in):
    assert train("-m", "seed=0,1", "--dry-run", cwd=work, stand_in=stand_in).out.splitlines() == [
        "2 runs, checked; nothing was started.",
        "  0  seed=0",
        "  1  seed=1",
    ]
    assert train("-m", "seed=0,-1", cwd=work, stand_in=stand_in).status == 2
    assert train("hydra.run.dir=/proc/x", cwd=work, stand_in=stand_in).status == 2
    assert list(work.iterdir()) == []

import json
import logging
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import gradkit
from gradkit.errors import ConfigError
from gradkit.train import __main__ as entry
from gradkit.train.__main__ import main
from gradkit.train.running.signals import EXIT_STATUS
from tests.train.command import environment, train

LIGHT = """
import json, sys
from gradkit.train.__main__ import main
from gradkit.train.running.signals import EXIT_STATUS
status = main(json.loads(sys.argv[1]))
heavy = [name for name in ("torch", "lightning", "hydra", "omegaconf", "sklearn") if name in sys.modules]
print(json.dumps([status, heavy]))
"""


def modules_after(arguments: list[str], tmp_path: Path) -> tuple[int, list[str]]:
    """The exit status and which heavy libraries a fresh process has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, json.dumps(arguments)],
        cwd=tmp_path,
        env=environment(None),
        capture_output=True,
        text=True,
        check=True,
    )
    status, heavy = json.loads(done.stdout.splitlines()[-1])
    return status, heavy


@pytest.mark.parametrize("arguments", [["--help"], ["-h", "model=mlp"], ["--version"], ["--foo"], ["--help", "x=y"]])
def test_help_and_version_load_neither_hydra_nor_torch(arguments, tmp_path):
    status, heavy = modules_after(arguments, tmp_path)
    assert heavy == []
    assert status == (2 if arguments[-1] in ("--foo", "x=y") else 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cfg", "job"],
        ["model=mlpp"],
        ["optimizer.lr=nan"],
        ["data=csv"],
        ["--dry-run"],
        ["-m", "seed=0,1", "--dry-run"],
        ["data=parquet", "data.path=none", "data.target=y"],
        ["logger=tensorboard", "--dry-run"],
    ],
)
def test_everything_before_a_run_answers_without_torch(arguments, tmp_path):
    _, heavy = modules_after(arguments, tmp_path)
    assert heavy == ["hydra", "omegaconf"]


def test_version_is_gradkits(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gradkit {gradkit.__version__}\n"


def test_cfg_prints_the_composed_configuration(capsys):
    assert main(["--cfg", "job", "--package", "model", "model=mlp", "model.hidden=[3]"]) == 0
    out = capsys.readouterr().out
    assert "hidden:\n- 3" in out
    assert main(["--cfg", "job", "data=csv"]) == 0
    assert "path: ???" in capsys.readouterr().out
    assert main(["--cfg", "job", "--resolve", "seed=5"]) == 0
    assert "${seed}" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cfg", "job", "--package", "nope"], "'nope'"),
        (["--cfg", "job", "model.hiden=3"], "model.hiden"),
        (["-m", "seed=1,2", "--cfg", "job"], "--dry-run"),
        (["--info", "defaults", "model=mlpp"], "Did you mean 'mlp'"),
        (["--cfg", "all", "--resolve", "hydra.run.dir=${a}"], "hydra.run.dir"),
    ],
)
def test_mistakes_beside_hydras_views_are_one_line(arguments, said, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


@pytest.mark.parametrize("arguments", [["--info", "searchpath"], ["--info"], ["--hydra-help"], ["-sc", "install=bash"]])
def test_hydras_views_answer(arguments, capsys):
    assert main(arguments) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_a_run_leaves_the_loggers_of_the_process_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mine = logging.getLogger("someone.elses")
    before = (mine.disabled, logging.getLogger().level, list(logging.getLogger().handlers))
    assert main(["trainer.max_steps=1", "trainer.progress=none"]) == 0
    assert (
        (mine.disabled, logging.getLogger().level, list(logging.getLogger().handlers)) == before == (False, *before[1:])
    )
    capsys.readouterr()
    assert main(["--info", "searchpath"]) == 0
    assert "Provider" in capsys.readouterr().out


def test_completion_offers_the_choices(capsys, monkeypatch):
    monkeypatch.setenv("COMP_LINE", "gradkit-train model=")
    monkeypatch.setenv("COMP_POINT", "20")
    assert main(["-sc", "query=bash"]) == 0
    assert "model=mlp" in capsys.readouterr().out.split()


def test_reader_that_leaves_early_is_no_error(tmp_path):
    for arguments in (["--help"], ["--info"], ["--cfg", "all"]):
        command = f"'{sys.executable}' -m gradkit.train {' '.join(arguments)} | head -c 1"
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment(None), capture_output=True, text=True, check=True
        )
        assert done.stderr == ""


def test_python_3_14_with_hydra_1_3_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(metadata, "version", lambda package: "1.3.8")
    monkeypatch.setattr(entry.sys, "version_info", (3, 14, 0, "final", 0))
    assert main(["seed=1", "--dry-run"]) == 2
    assert "Hydra 1.3 does not start on Python 3.14" in capsys.readouterr().err
    monkeypatch.setattr(metadata, "version", lambda package: "1.4.0")
    entry.check_python()
    monkeypatch.setattr(metadata, "version", lambda package: "1.3.8")
    monkeypatch.setattr(entry.sys, "version_info", (3, 13, 9, "final", 0))
    entry.check_python()


@pytest.mark.parametrize(("text", "rank"), [("0", 0), ("3", 3), ("", 0), ("x", 0), ("-1", 0)])
def test_rank_is_read_from_torchrun(text, rank, monkeypatch):
    monkeypatch.setenv("RANK", text)
    assert entry.process_rank() == rank


def test_configuration_is_found_from_any_directory(tmp_path):
    ran = train("--cfg", "job", "--package", "seed", cwd=tmp_path)
    assert (ran.status, ran.out.split()[-1]) == (0, "0")


def test_ctrl_c_before_the_run_is_130(monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_run", interrupted)
    assert main([]) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_signal_that_a_library_swallows_or_hides_ends_the_command_all_the_same(number, hidden, monkeypatch):
    def planning(options):
        try:
            signal.raise_signal(number)
        except SystemExit:
            if hidden:
                raise ConfigError("'NoneType' object has no attribute '_invalidate_flags_cache'") from None
        return 0

    before = signal.getsignal(number)
    monkeypatch.setattr(entry, "_plan_and_launch", planning)
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == EXIT_STATUS[number]
    assert signal.getsignal(number) is before

"""What a script starts is watched with it: forks, multiprocessing, ranks of torch's launcher; one report of all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradkit.run.children import watched_line
from tests.forks import Forks
from tests.processes import ENVIRONMENT, Ended

TRAIN = """\
import os, sys
import torch
from torch import nn

def train(seed, steps=3):
    torch.manual_seed(seed)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i in range(steps):
        model(torch.randn(8, 3)).pow(2).mean().backward()
        optimizer.step()
    return round(model.weight.sum().item(), 6)

def clean(number):
    return number + 1
"""
LINE = 11
POOLS = (
    TRAIN
    + """
if __name__ == "__main__":
    import multiprocessing
    for how in ("spawn", "forkserver", "fork"):
        context = multiprocessing.get_context(how)
        process = context.Process(target=train, args=(1,))
        process.start()
        process.join()
        print(how, process.exitcode, flush=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(clean, [1, 2]), pool.apply(train, (1,)) == train(1), flush=True)
        pool.close()
        pool.join()
    print(sorted(name for name in os.environ if "GRADKIT" in name))
"""
)
FORK = (
    TRAIN
    + """
print(train(0), flush=True)
child = os.fork()
if child == 0:
    print(train(1, steps=4), flush=True)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
from torch.utils.data import DataLoader
print([batch.sum().item() for batch in DataLoader([1, 2, 3], num_workers=1)])
"""
)
RANKS = (
    TRAIN
    + """
import torch.distributed
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
total = torch.tensor(train(rank))
torch.distributed.all_reduce(total)
print(f"{rank} of {torch.distributed.get_world_size()}: {total:.6f} {sys.argv}"
    f" {sorted(name for name in os.environ if 'GRADKIT' in name)} {__name__} {__file__}\\n", end="", flush=True)
torch.distributed.destroy_process_group()
sys.exit(3 if "fail" in sys.argv and rank else 0)
"""
)


def findings(path: Path) -> list[tuple[str, int, int, list[int]]]:
    report: dict[str, Any] = json.loads(path.read_text())
    return [(each["rule"], each["location"]["line"], each["count"], each["ranks"]) for each in report["findings"]]


def steps(path: Path) -> tuple[int, int]:
    run = json.loads(path.read_text())["run"]
    return run["steps"], run["ranks"]


def test_processes_of_every_start_method_report_to_their_parent(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(POOLS)
    before = set(Path("/tmp").glob("gradkit-*"))
    ended = forks.run("--report", "out.json", "--fail-on=error", "script.py", cwd=tmp_path)
    assert ended.stdout == "spawn 0\nforkserver 0\nfork 0\n[2, 3] True\n[]\n"
    assert findings(tmp_path / "out.json") == [("GK101", LINE, 10, [0])]
    assert steps(tmp_path / "out.json") == (15, 1)
    assert ended.stderr.count(f"gradkit: error[GK101] script.py:{LINE}:") == 5, "each says its errors at once"
    assert ended.stderr.count("error[GK101] stale-gradients") == 1, "and one of them reports"
    assert "15 optimizer steps" in ended.stderr
    assert ended.status == 1, "what a child found counts"
    assert set(Path("/tmp").glob("gradkit-*")) <= before


def test_a_fork_reports_only_what_came_after_it(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(FORK)
    ended = forks.run("--report", "out.json", "script.py", cwd=tmp_path)
    bare = forks.run(cwd=tmp_path, module="script")
    assert (ended.status, ended.stdout) == (bare.status, bare.stdout) == (0, bare.stdout)
    # Two steps of the parent and three of the child found stale gradients; the parent's own are counted once.
    assert sum(count for _, _, count, _ in findings(tmp_path / "out.json")) == 5
    assert steps(tmp_path / "out.json") == (7, 1)
    assert "error inside gradkit" not in ended.stderr


def launch(forks: Forks, *arguments: str, cwd: Path) -> Ended:
    """Torch's launcher, unwatched; its ranks are started anew."""
    return forks.run(*arguments, cwd=cwd, module="torch.distributed.run")


def test_ranks_of_the_launcher_are_merged_by_the_process_that_launched_them(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(RANKS)
    line = ("--nproc-per-node=2", "--standalone", "script.py", "--lr", "1")
    bare = launch(forks, *line, cwd=tmp_path)
    ended = forks.run("--report", "out.json", "-m", "torch.distributed.run", *line, cwd=tmp_path)
    assert (ended.status, sorted(ended.stdout.splitlines())) == (0, sorted(bare.stdout.splitlines()))
    assert len(bare.stdout.splitlines()) == 2
    assert findings(tmp_path / "out.json") == [("GK101", LINE, 2, [0, 1])]
    assert steps(tmp_path / "out.json") == (3, 2)
    for rank in (0, 1):
        assert f"gradkit: [rank {rank}] error[GK101] script.py:{LINE}:" in ended.stderr
    assert ended.stderr.count("stale-gradients") == 1
    assert "ranks:      0, 1" in ended.stderr


@pytest.mark.slow
def test_ranks_that_fail_make_the_launcher_fail_as_ever(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(RANKS)
    line = ("--nproc-per-node=2", "--standalone", "script.py", "fail")
    bare, ended = launch(forks, *line, cwd=tmp_path), forks.run("-m", "torch.distributed.run", *line, cwd=tmp_path)
    assert (ended.status, sorted(ended.stdout.splitlines())) == (bare.status, sorted(bare.stdout.splitlines()))
    assert bare.status == 1
    assert "exitcode  : 3" in ended.stderr
    assert "1 error" in ended.stderr


def test_ranks_under_the_runner_each_write_a_file_and_the_last_one_all(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(RANKS)
    (tmp_path / "out.rank1.json").write_text("left by an earlier run")
    ended = launch(
        forks, "--nproc-per-node=2", "--standalone", "-m", "gradkit.run", "--report=out.json", "script.py", cwd=tmp_path
    )
    assert ended.status == 0, ended.stderr
    assert findings(tmp_path / "out.json") == [("GK101", LINE, 2, [0, 1])]
    assert steps(tmp_path / "out.json") == (3, 2)
    for rank in (0, 1):
        assert findings(tmp_path / f"out.rank{rank}.json") == [("GK101", LINE, 2, [rank])]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["python", "-u", "a.py", "-m"], ["python", "-u", "-m", "gradkit.run", "a.py", "-m"]),
        (["/x/python3.12", "-W", "error", "-m", "a"], ["/x/python3.12", "-W", "error", "-m", "gradkit.run", "-m", "a"]),
        (["python", "-u", "-m", "gradkit.run", "a.py"], None),
        (["python", "-c", "print()"], None),
        (["python"], None),
        (["bash", "run.sh"], None),
        ([], None),
    ],
)
def test_only_lines_that_run_a_python_script_are_changed(line: list[str], expected: list[str] | None) -> None:
    assert watched_line(line) == expected


def test_an_environment_set_before_torch_is_in_time(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import os, sys\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "os.environ['OMP_NUM_THREADS'] = '1'\nfrom torch import get_num_threads, optim\n"
        "from torch.autograd import backward\nimport torch\nprint(get_num_threads(), torch.__loader__.__dict__.keys(),"
        " [type(each).__module__ for each in sys.meta_path if 'torch' in getattr(each, '_waiting', ())])\n"
        "w = torch.nn.Parameter(torch.ones(2)); o = optim.SGD([w], lr=.1)\n"
        "for i in range(3): backward(w.sum()); o.step()\n"
    )
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "OMP_NUM_THREADS"}
    seen = []
    for line in (["script.py"], ["-m", "gradkit.run", "--select", "GK101", "script.py"]):
        done = subprocess.run(
            [sys.executable, *line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        seen.append((done.stdout, done.stderr))
    assert seen[0] == (seen[1][0], "")
    assert seen[0][0].startswith("1 ")
    assert "error[GK101]" in seen[1][1], "a function that was bound early is watched too"

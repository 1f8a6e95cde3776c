"""The fixture `trajectory_regression` in real pytest runs: golden files made, kept, left and accepted."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

import pytest

from tests.integrations.plugin_runs import ALONE, LOOP, counts, run_pytest
from tests.trajectory.loops import nothing_compiled

__all__ = ["nothing_compiled"]

# As in test_pytest_plugin.py: what an inner run imports is dropped at its end, and must not be loaded twice.
importlib.import_module("torch._dynamo")
for package in ("observe", "report", "rules", "trajectory", "integrations"):
    path = importlib.import_module(f"gradkit.{package}").__path__
    for module in pkgutil.walk_packages(path, f"gradkit.{package}."):
        if module.name.rpartition(".")[2].startswith(("lightning", "transformers")):
            continue
        importlib.import_module(module.name)

pytest_plugins = ["pytester"]

TESTS = """
FACTOR = {factor}

def test_trains(trajectory_regression):
    torch.manual_seed(0)
    with trajectory_regression.record() as recording:
        model, optimizer = train(zero={zero})
    trajectory_regression.check(recording)

@pytest.mark.parametrize("rate", [0.1, 0.2])
def test_own_records(trajectory_regression, rate):
    weight, records = 1.0, []
    for step in range(5):
        records.append(dict(step=step, loss=FACTOR * weight**2, grad_norm_l2=FACTOR * abs(2 * weight)))
        weight -= rate * 2 * weight
    trajectory_regression.check(records, name="parabola")
    trajectory_regression.check(records[:3], name="its first steps")

class TestClass:
    def test_method(self, trajectory_regression):
        trajectory_regression.check([dict(loss=FACTOR)])
"""

GOLDENS = [
    "TestClass.test_method.json",
    "test_own_records-0.1.its_first_steps-*.json",
    "test_own_records-0.1.parabola.json",
    "test_own_records-0.2.its_first_steps-*.json",
    "test_own_records-0.2.parabola.json",
    "test_trains.json",
]


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, *arguments: str, factor: float = 1.0, zero: bool = True) -> pytest.RunResult:
    pytester.makepyfile(test_loop=LOOP + TESTS.format(factor=factor, zero=zero))
    return pytester.runpytest_inprocess(*ALONE, "-p", "no:cacheprovider", "-W", "error", *arguments)


def goldens(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "goldens" / "test_loop").iterdir())}


def test_goldens_are_made_kept_left_and_accepted(pytester: pytest.Pytester) -> None:
    missing = run(pytester)
    missing.assert_outcomes(failed=4)
    missing.stdout.fnmatch_lines(
        ["There is no golden file goldens/test_loop/test_trains.json yet. Make it with: pytest --gradkit-update"]
    )
    run(pytester, "--gradkit-update").assert_outcomes(passed=4)
    made = goldens(pytester.path)
    assert len(made) == 6
    assert all(Path(name).match(pattern) for name, pattern in zip(made, GOLDENS, strict=True)), list(made)
    run(pytester).assert_outcomes(passed=4)

    left = run(pytester, factor=2.0)
    left.assert_outcomes(failed=3, passed=1)
    left.stdout.fnmatch_lines(
        [
            "The run left its golden trajectory at step 0.",
            "  first difference: step 0: loss is 2 instead of 1: off by 1, a factor of 2; up to 2e-05 would have *",
            "  likeliest change: the loss is multiplied by 2.",
            "    step     run *loss  grad norm l2",
            "       0  golden *1             2",
            "             now *2             4",
            "Golden file: goldens/test_loop/test_own_records-0.1.parabola.json. If the change is wanted, *",
        ]
    )
    left.stdout.no_fnmatch_line("*Traceback*")
    assert goldens(pytester.path) == made

    run(pytester, "--gradkit-update", factor=2.0).assert_outcomes(passed=4)
    accepted = goldens(pytester.path)
    assert {name for name in made if made[name] != accepted[name]} == {*made} - {"test_trains.json"}
    run(pytester, factor=2.0).assert_outcomes(passed=4)


def test_an_update_leaves_goldens_alone_that_still_fit(pytester: pytest.Pytester) -> None:
    run(pytester, "--gradkit-update")
    path = pytester.path / "goldens" / "test_loop" / "test_trains.json"
    data = json.loads(path.read_text())
    loss = data["columns"].index("loss")
    data["steps"][0][loss] *= 1 + 1e-6  # as from another machine
    path.write_text(json.dumps(data))
    run(pytester, "--gradkit-update").assert_outcomes(passed=4)
    assert json.loads(path.read_text()) == data
    path.write_text("{")
    damaged = run(pytester, "-k", "test_trains")
    damaged.assert_outcomes(failed=1)
    damaged.stdout.fnmatch_lines(["The golden file *test_trains.json cannot be read: *"])
    run(pytester, "--gradkit-update", "-k", "test_trains").assert_outcomes(passed=1)
    run(pytester).assert_outcomes(passed=4)


def test_a_missing_zero_grad_is_named_with_the_steps_around_it(pytester: pytest.Pytester) -> None:
    run(pytester, "--gradkit-update")
    result = run(pytester, zero=False)
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines(
        [
            "The run left its golden trajectory at step 1.",
            "  first difference: step 1: grad norm l2 is *",
            "  likeliest change: gradients are not cleared between steps (zero_grad missing): step 1 consumed *",
            "    step     run  samples *loss *weight norm l2  grad norm l2  update norm l2   lr",
            "FAILED test_loop.py::test_trains - Failed: The run left its golden *",
        ]
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("t.check([dict(los=1)])", "Record 0 has an unknown name 'los'. Did you mean 'loss'?*"),
        ("t.check([])", "The run made no optimizer step that was recorded.*"),
        ("t.check('no/such/run')", "no/such/run is no run folder: it has no run.json."),
    ],
)
def test_a_mistake_is_one_line(pytester: pytest.Pytester, body: str, words: str) -> None:
    pytester.makepyfile(f"def test_it(trajectory_regression):\n    t = trajectory_regression\n    {body}\n")
    result = pytester.runpytest_inprocess(*ALONE, "-p", "no:cacheprovider", "--gradkit-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["_*test_it*_", words, "=*"], consecutive=True)


def test_two_checks_without_names_and_things_that_are_no_run_are_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_it(trajectory_regression):
            trajectory_regression.check([dict(loss=1)])
            with pytest.raises(pytest.fail.Exception, match="without a name already; give each one a name of its own"):
                trajectory_regression.check([dict(loss=1)])
            with pytest.raises(pytest.fail.Exception, match="takes a recording, a run folder or records, not int"):
                trajectory_regression.check(3, name="three")
        """
    )
    pytester.runpytest_inprocess(*ALONE, "-p", "no:cacheprovider", "--gradkit-update").assert_outcomes(passed=1)


def test_the_folder_is_an_ini_setting(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ngradkit_goldens = reference/runs\n")
    run(pytester, "--gradkit-update").assert_outcomes(passed=4)
    assert (pytester.path / "reference" / "runs" / "test_loop" / "test_trains.json").is_file()


OWN_RECORDS = """
import sys
import pytest

@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.4])
def test_parabola(trajectory_regression, rate):
    trajectory_regression.check([dict(loss=(1 - 2 * rate) ** (2 * step)) for step in range(5)])
    assert "torch" not in sys.modules
"""


def test_goldens_are_made_and_missed_under_xdist_and_records_of_ones_own_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "test_loop.py").write_text(OWN_RECORDS)
    common = ("-q", "-W", "error", "-n", "2")
    made = run_pytest(tmp_path, *common, "--gradkit-update")
    assert counts(made.stdout) == {"passed": 4}, made.stdout + made.stderr
    assert len(goldens(tmp_path)) == 4
    (tmp_path / "goldens" / "test_loop" / "test_parabola-0.3.json").unlink()
    missed = run_pytest(tmp_path, *common)
    assert counts(missed.stdout) == {"passed": 3, "failed": 1}, missed.stdout + missed.stderr

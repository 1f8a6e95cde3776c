"""The tour runs as a script and as a notebook, both say the same, and its assertions can fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import pytest

from experiments.tour.regenerate import NOTEBOOK, SCRIPT, executed

# One entry per thing the notebook teaches; each must stand in a line of output.
KEY_OUTPUT = {
    "6 at 3": "dy/dx at x = 3: 6.0",
    "the recorded operation": "grad_fn PowBackward",
    "the chain rule": "cos(x^2) * 2x by hand: -5.466782",
    "the chain rule by autograd": "autograd:              -5.466782",
    "dL/dw": "dL/dw = 6.6918",
    "dL/db": "dL/db = 0.9988",
    "the mean": "mean  0.666667  1.33333      2",
    "accumulated to 18": "3             18",
    "tracking stopped": "tracked 8000 bytes, under no_grad 0 bytes",
    "trained": "zeroed: w = -1.424, 16 of 20 samples right",
    "momentum 1": "largest difference between the 60 losses of the two: 0.0",
    "backward twice": "RuntimeError: Trying to backward through the graph a second time",
    "not a scalar": "RuntimeError: grad can be implicitly created only for scalar outputs",
    "no graph": "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
    "leaf changed in place": "RuntimeError: a leaf Variable that requires grad is being used in an in-place operation.",
    "overwritten": "RuntimeError: one of the variables needed for gradient computation has been modified",
    "grad of a result": "UserWarning: The .grad attribute of a Tensor that is not a leaf Tensor is being accessed.",
    "never zeroed": "error[GK101] stale-gradients: ",
    "cleared early": "error[GK102] gradients-cleared-before-step: ",
    "stepped twice": "error[GK103] step-without-new-gradients: ",
    "the repaired loops": "no findings in 3 steps",
    "severed": "GK203",
}

# A mistake put into the tour itself: what is replaced, by what, once.
SABOTAGE = {
    "wrong power": ('y = x**2\nprint(f"x: leaf', 'y = x**3\nprint(f"x: leaf'),
    "wrong chain rule": ("by_hand = math.cos(3.0**2) * 2 * 3.0", "by_hand = math.cos(3.0**2) * 2"),
    "wrong factor": ("(y_pred - y) / (y_pred * (1 - y_pred)), y_pred", "(y_pred - y) / y_pred, y_pred"),
    "sum for mean": ("squares.mean().backward()", "squares.sum().backward()"),
    "not zeroed": ("    x.grad.zero_()\n    assert x.grad.item() == 0.0\n", ""),
    "still tracked": ("z = x.detach()\ndetached", "z = x.view_as(x)\ndetached"),
    "never zeroed": (
        "    optimizer.zero_grad()\n    loss = loss_of(model)\n    loss.backward()\n    optimizer.step()\n    zeroed",
        "    loss = loss_of(model)\n    loss.backward()\n    optimizer.step()\n    zeroed",
    ),
    "no mistake made": ("y.backward()\ncaught(y.backward, ", "y.backward(retain_graph=True)\ncaught(y.backward, "),
    "another error": (
        'caught(lambda: (x**2).backward(), says="grad can',
        'caught(lambda: (x.detach()**2).backward(), says="grad can',
    ),
    "loop repaired under watch": (
        "        optimizer.zero_grad()\n        optimizer.step()\n        losses",
        "        optimizer.step()\n        losses",
    ),
    "twin broken under watch": (
        "        optimizer.zero_grad()\n        loss_of(model).backward()\n        consumed",
        "        loss_of(model).backward()\n        consumed",
    ),
    "cut healed": ("lambda hidden: hidden.detach()", "lambda hidden: hidden"),
}


def printed_by(notebook) -> str:
    return "".join(
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )


@pytest.fixture(scope="module")
def script_output(tmp_path_factory) -> str:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    ran = subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    assert list(elsewhere.iterdir()) == []
    return ran.stdout


@pytest.fixture(scope="module")
def committed():
    return jupytext.read(NOTEBOOK)


@pytest.mark.parametrize("said", KEY_OUTPUT.values(), ids=KEY_OUTPUT)
def test_the_script_says_what_the_notebook_teaches(script_output, said):
    assert said in script_output


def test_the_excerpts_in_the_readme_are_what_the_script_prints(script_output):
    readme = (SCRIPT.parent / "README.md").read_text(encoding="utf-8")
    excerpts = re.findall(r"```text\n(.*?)```", readme, re.DOTALL)
    assert len(excerpts) == 3
    assert [excerpt for excerpt in excerpts if excerpt not in script_output] == []


@pytest.mark.parametrize("said", KEY_OUTPUT.values(), ids=KEY_OUTPUT)
def test_the_committed_notebook_says_it_too(committed, said):
    assert said in printed_by(committed)


def test_the_script_prints_plain_ascii(script_output):
    assert script_output.isascii() and "\x1b" not in script_output


def run_here(source: str, path: Path) -> None:
    """Run a version of the tour in this process; from a file, since findings name its lines."""
    path.write_text(source, encoding="utf-8")
    exec(compile(source, str(path), "exec"), {"__name__": "__main__"})


def test_the_tour_as_it_is_runs_in_this_process(tmp_path, capsys):
    run_here(SCRIPT.read_text(encoding="utf-8"), tmp_path / "tour.py")
    assert KEY_OUTPUT["severed"] in capsys.readouterr().out


@pytest.mark.parametrize(("sound", "unsound"), SABOTAGE.values(), ids=SABOTAGE)
def test_a_mistake_in_the_tour_stops_it(sound, unsound, tmp_path, capsys):
    source = SCRIPT.read_text(encoding="utf-8")
    assert source.count(sound) == 1
    with pytest.raises(AssertionError):
        run_here(source.replace(sound, unsound), tmp_path / "tour.py")


def test_the_script_and_the_notebook_have_the_same_cells(committed):
    script = jupytext.read(SCRIPT)
    assert [(cell.cell_type, cell.source) for cell in committed.cells] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ]
    assert committed.metadata.jupytext.formats == "ipynb,py:percent"


def test_the_notebook_runs_from_top_to_bottom_and_prints_what_the_script_prints(script_output):
    started = time.perf_counter()
    fresh = executed()
    assert time.perf_counter() - started < 30
    assert not any(output.output_type == "error" for cell in fresh.cells for output in cell.get("outputs", []))
    assert printed_by(fresh).splitlines() == script_output.splitlines()


def test_the_committed_notebook_was_run_once_in_order(committed):
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert kinds == {"stream", "display_data"}
    assert not any(output.get("name") == "stderr" for cell in code for output in cell.outputs)


def test_the_committed_notebook_has_its_pictures_and_needs_no_network(committed):
    drawings = [
        output.data["image/svg+xml"]
        for cell in committed.cells
        for output in cell.get("outputs", [])
        if "image/svg+xml" in output.get("data", {})
    ]
    assert len(drawings) == 2
    assert ["never cleared" in drawing for drawing in drawings] == [True, False]
    assert ["never zeroed" in drawing for drawing in drawings] == [False, True]
    for drawing in drawings:
        assert not re.search(r"<script|href=|url\((?!#)", drawing.replace("xlink:href", "href"))
    assert NOTEBOOK.stat().st_size < 300_000


def test_the_committed_notebook_names_no_machine(committed):
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert str(Path.home()) not in text and str(SCRIPT.parents[2]) not in text
    found = re.findall(
        r"(?<![\w.:/])/(?:home|Users|root|tmp|work|usr|opt|var|__w)/|[A-Z]:\\\\Users|ipykernel_\d|site-packages", text
    )
    assert found == []

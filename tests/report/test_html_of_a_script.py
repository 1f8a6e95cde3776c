"""`python -m gradkit.run --html` writes a page with the findings at the script's own lines, and changes nothing."""

import os
import subprocess
import sys

import pytest

from tests.report.browser import load, needs_browser
from tests.report.test_html import check_page

SCRIPT = """\
import torch

model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    {clear}
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
print("done")
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of a faulty script and that of its repaired twin."""
    folder = tmp_path_factory.mktemp("scripts")
    made = {}
    for name, clear in (("faulty", "pass"), ("sound", "optimizer.zero_grad()")):
        (folder / f"{name}.py").write_text(SCRIPT.format(clear=clear))
        command = [sys.executable, "-m", "gradkit.run", "--html", f"{name}.html", f"{name}.py"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=environment
        )
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
        made[name] = folder / f"{name}.html"
    return made


def test_a_faulty_script_has_its_line_marked_on_the_page_and_a_sound_one_no_finding(pages):
    faulty, sound = (pages[name].read_text() for name in ("faulty", "sound"))
    check_page(faulty)
    check_page(sound)
    assert "GK101" in faulty
    assert '<span class="marked">    8 &gt;     optimizer.step()</span>' in faulty
    assert "no findings" in sound
    assert "GK101</span>" not in sound


@needs_browser
def test_it_loads_without_a_word(pages):
    shown = load(pages["faulty"])
    assert (shown.complaints, shown.requests) == ([], [])

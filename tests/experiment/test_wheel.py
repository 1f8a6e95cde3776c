"""From a wheel the experiments are found as well, in a folder far from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from gradkit.experiment.locate import shipped

ROOT = Path(__file__).resolve().parents[2]


def test_the_experiments_are_found_from_a_wheel(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        file.extractall(tmp_path / "site")
    carried = [name for name in names if name.startswith("gradkit/experiments/")]
    assert sorted(carried) == sorted(f"gradkit/experiments/{name}/experiment.yaml" for name in shipped())
    assert "gradkit/report/templates/page.html.j2" in names
    away = tmp_path / "away"
    away.mkdir()
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import gradkit; print(gradkit.__file__);"
        "from gradkit.experiment.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for arguments in (["--list"], ["accumulation", "--quick", "--dry-run"]):
        command = [sys.executable, "-c", code, str(tmp_path / "site"), *arguments]
        done = subprocess.run(
            command, cwd=away, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert str(tmp_path / "site") in done.stdout
    assert "nothing was started" in done.stdout

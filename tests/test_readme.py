"""The README keeps its word: its first program and output, its table of rules, and the files it points to."""

import re
import subprocess
import sys
from pathlib import Path

from gradkit.rules import all_rules

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_program_prints_what_is_shown(tmp_path):
    script = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    shown = re.search(r"```console\n\$ python -m gradkit\.run forgot\.py\n(.*?)```", README, re.DOTALL)
    assert script and shown
    (tmp_path / "forgot.py").write_text(script[1], encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-u", "-m", "gradkit.run", "forgot.py"],  # as on a terminal, where every line appears at once
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    said = [re.sub(r"\d+ rules active", "all rules active", text.rstrip()) for text in (ran.stdout, shown[1])]
    assert said[0] == said[1]


def test_the_table_of_rules_agrees_with_the_code():
    rows = re.findall(r"^\| \[(GK\d{3})\]\((.*?)\) \| (.*?) \| (.*?) \| (.*?) \|$", README, re.MULTILINE)
    known = {
        (code, f"docs/rules/{code.lower()}.md", rule.name, rule.severity.value, rule.page()["Summary"].rstrip("."))
        for code, rule in all_rules().items()
    }
    assert len(rows) >= 20
    assert set(rows) <= known


def test_everything_linked_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target

"""The experiment in the guide is one that gradkit reads and composes."""

import re
from pathlib import Path

from gradkit.experiment.reading import read_experiment
from gradkit.experiment.runner import plan
from gradkit.experiment.schema import RELATIONS

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "compare" / "guide.md").read_text(encoding="utf-8")


def test_the_experiment_of_the_guide_is_composed(tmp_path):
    (tmp_path / "experiment.yaml").write_text(re.search(r"```yaml\n(.*?)```", GUIDE, re.S)[1])
    made = read_experiment(tmp_path)
    assert [arm.name for arm in made.arms] == ["plain/0.1", "plain/1", "momentum/0.1", "momentum/1"]
    assert len(plan(made, tmp_path)) == 20
    assert len(plan(read_experiment(tmp_path, quick=True), tmp_path)) == 4


def test_every_kind_of_claim_is_in_the_guide():
    assert all(f"`{relation}:" in GUIDE for relation in RELATIONS)

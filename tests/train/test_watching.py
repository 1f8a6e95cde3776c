"""Training runs that watch themselves: silent when correct, and each fault found as the rule it names."""

import json
from pathlib import Path
from pkgutil import resolve_name

import pytest

from gradkit.runs.store import read_events, read_manifest
from gradkit.train.faults import loop_with_fault
from gradkit.train.schema import GROUPS
from tests.forks import Forks
from tests.train.runs import assert_same_weights, train, train_arm, train_into

SHORT = ("trainer.epochs=2", "trainer.accelerator=cpu", "trainer.evaluate_every=2", "trainer.checkpoint_every=null")
FAULTS = [name for name in GROUPS["fault"] if name != "none"]
# What a fault needs besides itself to be one: a layer below the last, dropout, steps enough.
NEEDS: dict[str, tuple[str, ...]] = {
    "retained_graph": ("trainer.epochs=8",),
    "unoptimized_head": ("model=mlp",),
    # The half of two tensors is one scalar, whose clipped gradient is all that is left of it.
    "unzeroed_partly": ("model=mlp",),
    "detached": ("model=mlp", "trainer.epochs=6"),
    # A validation split of more than one forward.
    "tracked_evaluation": ("data=synthetic", "data.samples=45000", "trainer.batch_size=4096", "trainer.epochs=4"),
    "train_mode_in_evaluation": (
        "data=synthetic",
        "data.samples=45000",
        "trainer.batch_size=4096",
        "trainer.epochs=4",
        "model=mlp",
        "model.batch_norm=true",
    ),
    "eval_mode_left_on": ("model=mlp", "model.batch_norm=true", "trainer.epochs=6"),
    "frozen_lr": ("trainer.epochs=12",),
    "needless_retain": ("trainer.epochs=12",),
    "huge_lr": ("model=mlp", "optimizer=adam", "trainer.epochs=12"),
    "scheduler_first": ("schedule=one_cycle",),
    "frozen_moves": ("model=mlp", "trainer.epochs=8", "fault.after=4"),
}
# The notebook's scalar model takes one of thirty features; the convolution needs images.
DATA = {"notebook": "breast_cancer", "cnn_digits": "digits_odd"}
MODELS = {
    "notebook": ("autograd", "manual", "both"),
    "logistic": ("autograd", "manual", "both"),
    "mlp": ("autograd", "manual", "both"),
    "deep_sigmoid": ("autograd",),
    "cnn_digits": ("autograd",),
}
SETTINGS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "accumulated": ("trainer.accumulate=3",),
    "clipped by norm": ("trainer.clip_norm=0.5",),
    "clipped by value": ("trainer.clip_value=0.05",),
    "both": ("gradient=both",),
    "adam": ("optimizer=adam",),
    "deep": ("watch=deep",),
    "float64": ("trainer.precision=64",),
}


def judged(folder: Path, *overrides: str) -> set[tuple[str, str]]:
    """The findings of one run at error or warning: (rule, function of the line)."""
    manifest = train_arm(folder, *overrides)
    return {
        (finding["rule"], finding["location"]["function"])
        for finding in manifest["findings"]
        if finding["severity"] != "note"
    }


@pytest.mark.parametrize("optimizer", GROUPS["optimizer"])
@pytest.mark.parametrize(("model", "gradient"), [(model, way) for model, ways in MODELS.items() for way in ways])
def test_no_correct_run_is_accused(tmp_path: Path, model: str, gradient: str, optimizer: str) -> None:
    overrides = (f"model={model}", f"data={DATA.get(model, 'breast_cancer')}", f"gradient={gradient}")
    manifest = train_arm(
        tmp_path / "run", *overrides, f"optimizer={optimizer}", *SHORT, "trainer.max_steps=8", "trainer.accumulate=2"
    )
    assert manifest["findings"] == []
    assert manifest["watch"]["steps"] == manifest["steps"] == 6 if model != "cnn_digits" else 8


def overrides_of(fault: str, *overrides: str) -> tuple[str, ...]:
    """What makes a run commit `fault`; keys given in `overrides` win over what it needs."""
    given = {each.partition("=")[0] for each in overrides}
    needs = (each for each in (*NEEDS.get(fault, ()), *SHORT) if each.partition("=")[0] not in given)
    chosen: dict[str, str] = {}
    for each in (*needs, *overrides):
        chosen.setdefault(each.partition("=")[0], each)
    return (f"fault={fault}", *chosen.values())


# Clipping and the like stand between backward and step, where the faults of clearing and accumulating are.
TABLE = [(fault, name) for fault in FAULTS for name in (SETTINGS if fault in FAULTS[:4] else ("plain", "accumulated"))]


@pytest.mark.parametrize(("fault", "settings"), TABLE)
def test_each_fault_is_found_as_the_rule_it_names_and_nothing_else(tmp_path: Path, fault: str, settings: str) -> None:
    rule = resolve_name(f"gradkit.train.faults.{fault}:RULE")
    assert {code for code, _ in judged(tmp_path / "run", *overrides_of(fault, *SETTINGS[settings]))} == {rule}


@pytest.mark.parametrize("model", ["notebook", "mlp", "deep_sigmoid"])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_in_every_model(tmp_path: Path, fault: str, model: str) -> None:
    if model != "mlp" and any("model" in need for need in NEEDS.get(fault, ())) and fault != "unzeroed_partly":
        pytest.skip(f"{fault} needs layers that only mlp has")
    rule = resolve_name(f"gradkit.train.faults.{fault}:RULE")
    assert {code for code, _ in judged(tmp_path / "run", *overrides_of(fault, f"model={model}"))} == {rule}


def test_the_fault_is_found_at_the_line_that_steps(tmp_path: Path) -> None:
    assert judged(tmp_path / "a", *SHORT, "fault=unzeroed") == {("GK101", "TrainingLoop.update_parameters")}
    assert judged(tmp_path / "b", *SHORT, "fault=stepped_twice") == {("GK103", "Loop.update_parameters")}


def test_clearing_now_and_then_mixes_at_most_that_many_windows(tmp_path: Path) -> None:
    manifest = train_into(tmp_path / "run", *SHORT, "fault=unzeroed", "fault.every=4")
    assert manifest["findings"][0]["evidence"]["windows_mixed"] == 4


def test_a_share_of_the_parameters_is_named(tmp_path: Path) -> None:
    manifest = train_into(tmp_path / "run", *SHORT, "fault=unzeroed_partly", "fault.share=0.5", "model=logistic")
    assert manifest["findings"][0]["parameters"] == ["linear.bias"]


def test_lbfgs_without_clearing_in_its_closure_is_found(tmp_path: Path) -> None:
    assert {code for code, _ in judged(tmp_path / "run", *SHORT, "fault=unzeroed", "optimizer=lbfgs")} == {"GK101"}


def test_every_fault_names_a_rule_its_schema_names_too() -> None:
    for name in FAULTS:
        assert resolve_name(f"gradkit.train.faults.{name}:RULE") in (GROUPS["fault"][name].__doc__ or "")


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(LookupError, match="no fault named 'nothing'"):
        loop_with_fault("nothing")


def test_watching_changes_no_weight(tmp_path: Path) -> None:
    for name in ("none", "standard", "deep"):
        train_into(tmp_path / name, "trainer.epochs=3", f"watch={name}", "model=mlp", "optimizer=adam")
    assert_same_weights(tmp_path / "none", tmp_path / "standard")
    assert_same_weights(tmp_path / "none", tmp_path / "deep")
    assert "watch" not in read_manifest(tmp_path / "none")


def test_deep_values_are_events_that_grow_with_the_fault(tmp_path: Path) -> None:
    train_into(tmp_path / "run", *SHORT, "fault=unzeroed", "watch=deep")
    windows = [event for event in read_events(tmp_path / "run") if event["event"] == "window"]
    assert [event["step"] for event in windows] == list(range(12))
    assert [event["windows_mixed"] for event in windows] == list(range(1, 13))
    assert windows[0]["stale_norm_l2"] == 0.0
    assert windows[0]["cosine"] == pytest.approx(1.0)
    assert all(event["stale_norm_l2"] > event["fresh_norm_l2"] for event in windows[2:])


def test_findings_of_an_earlier_attempt_are_kept(tmp_path: Path) -> None:
    train_into(tmp_path / "run", *SHORT, "fault=unzeroed")
    assert train(f"trainer.resume={tmp_path / 'run'}", "trainer.epochs=4", "trainer.progress=none") == 0
    findings = read_manifest(tmp_path / "run")["findings"]
    assert [(finding["rule"], finding["attempt"]) for finding in findings] == [("GK101", 1), ("GK101", 2)]


def test_the_command_prints_finding_line_and_growth(tmp_path: Path, train_forks: Forks) -> None:
    ran = train_forks.run(*SHORT, "fault=unzeroed", "watch=deep", cwd=tmp_path, module="gradkit.train", COLUMNS="100")
    assert ran.status == 0, ran.stderr
    assert "error[GK101] stale-gradients: Step 1 of SGD consumed 2 of 2 gradient(s)" in ran.stdout
    assert "self.optimizer.step()" in ran.stdout
    assert "What each step consumed" in ran.stdout
    assert "fault unzeroed: Gradients are not cleared between steps" in ran.stdout


def test_a_run_can_end_at_the_first_finding(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = train(
        *SHORT, "fault=unzeroed", "watch.halt_on=error", f"hydra.run.dir={tmp_path}", "trainer.progress=none"
    )
    assert status == 1
    assert capfd.readouterr().err.startswith("gradkit.train: GK101 stale-gradients: Step 1 of SGD consumed")
    manifest = json.loads((tmp_path / "run.json").read_text())
    assert manifest["status"] == "failed"
    assert [finding["rule"] for finding in manifest["findings"]] == ["GK101"]


def test_rules_can_be_left_out(tmp_path: Path) -> None:
    assert judged(tmp_path / "a", *SHORT, "fault=unzeroed", "watch.ignore=[GK101]") == set()
    assert judged(tmp_path / "b", *SHORT, "fault=stepped_twice", "watch.select=[GK101]") == set()


@pytest.mark.parametrize("key", ["select", "ignore"])
def test_an_unknown_rule_is_refused_before_anything_is_trained(
    tmp_path: Path, key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(f"watch.{key}=[GK1O1]", f"hydra.run.dir={tmp_path / 'run'}") == 2
    error = capfd.readouterr().err
    assert f"watch.{key}" in error
    assert "GK101" in error
    assert not (tmp_path / "run").exists()

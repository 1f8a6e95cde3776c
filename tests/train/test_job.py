"""Whole runs: what they reach, what they write, and how they behave when the world fails them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from gradkit.runs.checkpoints import BEST, load
from gradkit.runs.store import read_events, read_manifest
from gradkit.train.evaluation.evaluate import metrics
from tests.forks import Forks
from tests.train.runs import assert_same_weights, final_weights, train, train_arm, train_in_child, train_into

QUICK = ("trainer.epochs=3", "trainer.accelerator=cpu")


def test_breast_cancer_is_learned_as_well_as_by_scikit_learn(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    from gradkit.train.data import load_dataset
    from gradkit.train.schema.data import BreastCancerData

    accuracies, aurocs, references = [], [], []
    for seed in range(5):
        manifest = train_arm(tmp_path / str(seed), f"seed={seed}")
        accuracies.append(manifest["metrics"]["test"]["accuracy"])
        aurocs.append(manifest["metrics"]["test"]["auroc"])
        data = load_dataset(BreastCancerData(), seed)
        classifier = LogisticRegression(max_iter=1000).fit(data.train.features.numpy(), data.train.targets.numpy())
        references.append(classifier.score(data.test.features.numpy(), data.test.targets.numpy()))
    assert median(accuracies) >= 0.96
    assert median(aurocs) >= 0.99
    assert abs(median(accuracies) - median(references)) <= 0.01


@pytest.mark.parametrize("precision", ["32", "64"])
@pytest.mark.parametrize("gradient", ["autograd", "manual", "both"])
def test_the_worked_example_has_its_gradient(tmp_path: Path, gradient: str, precision: str) -> None:
    manifest = train_into(
        tmp_path / "run", "preset=worked_example", f"gradient={gradient}", f"trainer.precision={precision}"
    )
    assert round(manifest["worked_example"]["w"], 4) == 6.6918
    assert round(manifest["worked_example"]["b"], 4) == 0.9988


def test_the_manifest_says_all_that_is_needed_to_repeat_a_run(tmp_path: Path) -> None:
    manifest = train_into(tmp_path / "run", *QUICK, "seed=5", "name=mine")
    assert manifest["status"] == "completed"
    assert manifest["seed"] == 5
    assert manifest["name"] == "mine"
    assert manifest["config"]["trainer"]["epochs"] == 3
    assert manifest["data"]["label_mapping"] == {"malignant": 0, "benign": 1}
    assert manifest["data"]["fingerprint"].startswith("sha256:")
    assert manifest["data"]["samples"] == {"train": 343, "validation": 113, "test": 113}
    assert manifest["versions"]["torch"] == torch.__version__.split("+")[0] or manifest["versions"]["torch"]
    assert manifest["environment"]["precision"] == "32-true"
    assert manifest["environment"]["device"] == "cpu"
    assert manifest["steps"] == 18
    assert manifest["stopped_because"] == "epochs=3"
    assert set(manifest["metrics"]["test"]) == {
        "accuracy",
        "auroc",
        "average_precision",
        "log_loss",
        "calibration_error",
    }
    assert (tmp_path / "run" / ".hydra" / "config.yaml").is_file()


def test_every_step_and_evaluation_is_recorded_once(tmp_path: Path) -> None:
    train_into(tmp_path / "run", *QUICK, "trainer.flush_every=5")
    events = read_events(tmp_path / "run")
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(18))
    assert all(event["loss"] > 0 and event["grad_norm_l2"] > 0 and event["lr"] == 0.1 for event in steps)
    evaluations = [event for event in events if event["event"] == "evaluation"]
    assert [(event["split"], event["step"]) for event in evaluations] == [
        ("validation", 6),
        ("validation", 12),
        ("test", 18),
        ("validation", 18),
    ] or len(evaluations) == 4


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_into(tmp_path / name, *QUICK, "model=mlp", "model.dropout=0.2", f"seed={seed}")
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "a", tmp_path / "c")


def test_a_window_of_micro_batches_gives_the_gradient_of_its_samples(tmp_path: Path) -> None:
    # 343 samples: windows of 4 x 32 = 128, 128 and a tail of 87; one batch of 128 at a time holds the same samples.
    common = (*QUICK, "trainer.precision=64", "trainer.shuffle=none")
    train_into(tmp_path / "split", *common, "trainer.batch_size=32", "trainer.accumulate=4")
    train_into(tmp_path / "whole", *common, "trainer.batch_size=128")
    split, whole = final_weights(tmp_path / "split"), final_weights(tmp_path / "whole")
    for name in split:
        # Only the order of float64 sums differs; 9 steps.
        torch.testing.assert_close(split[name], whole[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("clip", ["trainer.clip_norm=0.05", "trainer.clip_value=0.01"])
def test_clipping_changes_the_step_but_not_the_recorded_norm(tmp_path: Path, clip: str) -> None:
    train_arm(tmp_path / "free", *QUICK, "trainer.max_steps=2")
    train_arm(tmp_path / "clipped", *QUICK, "trainer.max_steps=2", clip)
    free, clipped = (read_events(tmp_path / name) for name in ("free", "clipped"))
    assert free[0]["grad_norm_l2"] == clipped[0]["grad_norm_l2"] > 0.05
    assert not torch.equal(
        final_weights(tmp_path / "free")["linear.weight"], final_weights(tmp_path / "clipped")["linear.weight"]
    )


OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "lbfgs")


# Every optimizer on one model and every model under three optimizers; the other pairs are slow.
@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        pytest.param(model, name, marks=[pytest.mark.slow] * (model != "mlp" and name not in ("sgd", "adam", "lbfgs")))
        for model in ("notebook", "logistic", "mlp")
        for name in OPTIMIZERS
    ],
)
def test_hand_derived_and_autograd_runs_agree(tmp_path: Path, model: str, optimizer: str) -> None:
    settings = (f"model={model}", f"optimizer={optimizer}", "trainer.epochs=3", "trainer.precision=64")
    if optimizer == "lbfgs":  # on changing samples it may diverge to NaN, which equals nothing
        settings += ("trainer.batch_size=343",)
    train_arm(tmp_path / "autograd", *settings)
    train_arm(tmp_path / "manual", *settings, "gradient=manual")
    first, second = final_weights(tmp_path / "autograd"), final_weights(tmp_path / "manual")
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-12, atol=1e-12)


def test_gradient_both_records_how_far_apart_they_are(tmp_path: Path) -> None:
    manifest = train_into(tmp_path / "run", *QUICK, "model=mlp", "gradient=both")
    steps = [event for event in read_events(tmp_path / "run") if event["event"] == "step"]
    assert all(0 <= event["manual_abs_diff"] < 1e-6 for event in steps)
    assert manifest["differences"]["manual_abs_diff"] == max(event["manual_abs_diff"] for event in steps)
    assert manifest["differences"]["manual_ulp_diff"] < 200


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "warmup", "one_cycle", "plateau"])
def test_every_schedule_trains(tmp_path: Path, schedule: str) -> None:
    manifest = train_arm(tmp_path / "run", *QUICK, f"schedule={schedule}")
    assert manifest["metrics"]["train"]["log_loss"] < 0.69
    rates = [event["lr"] for event in read_events(tmp_path / "run") if event["event"] == "step"]
    assert (len(set(rates)) == 1) == (schedule in ("constant", "step", "plateau"))


@pytest.mark.parametrize("mode", ["tracked", "no_grad", "inference_mode", "detach", "requires_grad_false"])
def test_evaluating_differently_trains_the_same(tmp_path: Path, mode: str) -> None:
    manifest = train_into(tmp_path / "run", *QUICK, f"inference={mode}")
    train_into(tmp_path / "reference", *QUICK)
    assert_same_weights(tmp_path / "run", tmp_path / "reference")
    assert manifest["metrics"] == read_manifest(tmp_path / "reference")["metrics"]


def test_a_finished_run_is_evaluated_under_another_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = train_into(tmp_path / "run", *QUICK)
    results = {}
    for mode in ("tracked", "detach"):
        assert train("mode=evaluate", f"run={tmp_path / 'run'}", f"inference={mode}") == 0
        assert "bytes saved for backward" in capsys.readouterr().out
    for path in (tmp_path / "run").glob("evaluations/*/evaluation.json"):
        result = json.loads(path.read_text())
        results[result["inference"]] = result
    assert results["tracked"]["metrics"] == results["detach"]["metrics"] == manifest["metrics"]
    assert results["tracked"]["cost"]["graph_nodes"] > 0 == results["detach"]["cost"]["graph_nodes"]
    assert results["tracked"]["cost"]["saved_bytes"] >= results["detach"]["cost"]["saved_bytes"] == 0
    assert read_manifest(tmp_path / "run")["status"] == "completed"


def test_early_stopping_evaluates_the_best_weights(tmp_path: Path) -> None:
    # A learning rate far too high: the validation loss has its best early.
    manifest = train_into(
        tmp_path / "run", "optimizer.lr=20", "trainer.early_stopping=3", "trainer.epochs=200", "model=mlp"
    )
    assert manifest["stopped_because"] == "early_stopping=3"
    validation = [event["log_loss"] for event in read_events(tmp_path / "run") if event.get("split") == "validation"]
    assert manifest["best"]["validation_loss"] == min(validation)
    assert manifest["metrics"]["validation"]["log_loss"] == pytest.approx(min(validation))


def test_a_run_that_stopped_early_is_evaluated_by_the_weights_it_reports_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    manifest = train_into(
        folder, "optimizer.lr=20", "trainer.early_stopping=3", "trainer.epochs=200", "trainer.accelerator=cpu"
    )
    best = manifest["best"]["step"]
    assert best < manifest["steps"]
    assert [event["step"] for event in read_events(folder) if event.get("split") == "test"] == [best]
    capsys.readouterr()
    assert train("mode=evaluate", f"run={folder}") == 0
    assert f"These are the best weights, of step {best}." in capsys.readouterr().out
    (path,) = folder.glob("evaluations/*/evaluation.json")
    result = json.loads(path.read_text())
    assert (result["step"], result["metrics"]) == (best, manifest["metrics"])


def test_a_run_that_ends_between_evaluations_has_its_best_weights_too(tmp_path: Path) -> None:
    manifest = train_into(tmp_path / "run", "trainer.max_steps=3", "trainer.accelerator=cpu")
    assert manifest["best"] == {"validation_loss": manifest["metrics"]["validation"]["log_loss"], "step": 3}
    assert load(tmp_path / "run" / "checkpoints" / BEST)["step"] == 3


def test_metrics_of_half_precision_logits_are_worked_out_in_single() -> None:
    logits = torch.randn(999, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = (torch.arange(999) % 2).float()
    assert metrics(logits, targets) == metrics(logits.float(), targets)


def test_limits_end_a_run(tmp_path: Path) -> None:
    assert train_into(tmp_path / "steps", "trainer.max_steps=7")["steps"] == 7
    timed = train_into(tmp_path / "seconds", "trainer.max_seconds=0.2", "trainer.epochs=1000000")
    assert timed["stopped_because"] == "max_seconds=0.2"
    assert 0.2 <= timed["timings"]["train_seconds"] < 5


def test_the_precision_that_was_really_used_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = train_into(tmp_path / "run", *QUICK, "trainer.precision=16-mixed")
    assert manifest["environment"]["precision"] == "bf16-mixed"
    assert manifest["config"]["trainer"]["precision"] == "16-mixed"


def test_one_process_needs_no_strategy(tmp_path: Path) -> None:
    manifest = train_into(tmp_path / "run", *QUICK, "trainer.strategy=ddp")
    assert (manifest["status"], manifest["environment"]["processes"]) == ("completed", 1)


def test_mirrors_hold_the_recorded_values(tmp_path: Path) -> None:
    train_into(tmp_path / "run", *QUICK, "logger=all")
    rows = (tmp_path / "run" / "csv" / "version_1" / "metrics.csv").read_text().splitlines()
    assert "loss" in rows[0]
    assert len(rows) >= 19
    assert list((tmp_path / "run").glob("tensorboard/**/events.out*"))


def test_a_mirror_that_fails_is_named_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lightning.fabric.loggers import CSVLogger

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CSVLogger, "log_metrics", refuse)
    manifest = train_into(tmp_path / "run", *QUICK, "logger=csv")
    assert manifest["status"] == "completed"
    assert manifest["unwritten"] == ["the csv mirror"]
    assert capsys.readouterr().err.count("csv mirror") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A real file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder]).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_survived_and_said_once(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small_disk / "ballast").write_bytes(b"\0" * 700_000)
    settings = (
        "model=mlp",
        "model.hidden=[100]",
        "trainer.max_steps=2500",
        "trainer.epochs=10000",
        "trainer.checkpoint_every=100",
    )
    status = train(*settings, "logger=csv", f"hydra.run.dir={small_disk}/run", "trainer.progress=none")
    captured = capsys.readouterr()
    assert status == 0
    assert captured.err.count("cannot write events.jsonl") == 1
    assert "Traceback" not in captured.err


def test_a_run_of_which_nothing_could_be_kept_says_so_and_exits_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradkit.runs.store.write_atomically", refuse)
    monkeypatch.setattr("gradkit.runs.checkpoints.write_atomically", refuse)
    assert train(*QUICK, f"hydra.run.dir={tmp_path}/run", "trainer.progress=none") == 4
    last = capsys.readouterr().err.splitlines()[-1]
    assert "could be kept: cannot write checkpoints, run.json: [Errno 28] No space left" in last


def test_a_full_disk_at_the_start_is_refused(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small_disk / "run").mkdir()
    handle = os.open(small_disk / "ballast", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space"):
        while True:
            os.write(handle, b"\0" * 4096)
    os.close(handle)
    assert train(f"hydra.run.dir={small_disk}/run", "trainer.progress=none") == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "No space left" in error


def test_a_read_only_folder_is_refused(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert train(f"hydra.run.dir={small_disk}/run", "trainer.progress=none") == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert str(small_disk) in error


def test_a_closed_standard_output_is_survived(tmp_path: Path) -> None:
    script = f"{sys.executable} -m gradkit.train trainer.epochs=200 hydra.run.dir={tmp_path / 'run'} | head -n 1"
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert read_manifest(tmp_path / "run")["status"] == "completed"


def test_the_command_prints_what_a_person_needs(tmp_path: Path, train_forks: Forks) -> None:
    # Fabric announces mixed precision by a logger that writes to stderr, unless pytest's is there before it.
    result = train_forks.run(
        *QUICK, "trainer.precision=bf16-mixed", cwd=tmp_path, module="gradkit.train", COLUMNS="100"
    )
    assert result.status == 0, result.stderr
    assert result.stderr == ""
    for words in ("breast_cancer", "malignant = 0", "epoch 3/3", "Final metrics", "accuracy", "run folder"):
        assert words in result.stdout
    folders = list(tmp_path.glob("outputs/*/*/run.json"))
    assert len(folders) == 1


def nan_weights() -> None:
    from gradkit.train.running.session import Session

    original = Session.run

    def run(self: Session, signals: object) -> dict[str, object]:
        with torch.no_grad():
            for parameter in self.raw_model.parameters():
                parameter.fill_(float("nan"))
        return original(self, signals)  # type: ignore[arg-type]

    Session.run = run  # type: ignore[method-assign,assignment]


def test_non_finite_weights_do_not_end_the_record(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train_in_child(*QUICK, f"hydra.run.dir={folder}", "trainer.progress=none", prepare=nan_weights) == 0
    assert read_manifest(folder)["metrics"]["test"]["accuracy"] == "NaN"
    assert all(np.isnan(event["loss"]) for event in read_events(folder) if event["event"] == "step")


@pytest.mark.parametrize("batch_size", [64, 343])
def test_lbfgs_is_told_to_take_all_samples_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], batch_size: int
) -> None:
    train(*QUICK, "optimizer=lbfgs", f"trainer.batch_size={batch_size}", f"hydra.run.dir={tmp_path / 'run'}")
    assert ("All at once: trainer.batch_size=343" in capsys.readouterr().out) == (batch_size < 343)


@pytest.mark.slow  # the gradients alone are averaged in tests/train/gradients/test_processes.py
def test_hand_derived_gradients_of_two_processes_are_averaged(tmp_path: Path) -> None:
    for name in ("autograd", "manual"):
        status = train_in_child(
            *QUICK,
            "trainer.devices=2",
            "trainer.precision=64",
            f"gradient={name}",
            f"hydra.run.dir={tmp_path / name}",
            "trainer.progress=none",
        )
        assert status == 0
    first, second = final_weights(tmp_path / "autograd"), final_weights(tmp_path / "manual")
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["32", "16-mixed", "bf16-mixed"])
def test_a_gpu_trains(tmp_path: Path, precision: str) -> None:
    manifest = train_into(
        tmp_path / "run", "trainer.accelerator=cuda", f"trainer.precision={precision}", "trainer.clip_norm=1"
    )
    assert manifest["environment"]["device"].startswith("cuda")
    assert manifest["metrics"]["test"]["accuracy"] > 0.9


def test_batch_norm_refuses_a_single_sample_before_the_first_step(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    overrides = (*QUICK, "model=mlp", "model.batch_norm=true", "trainer.progress=none")
    assert train(*overrides, "trainer.batch_size=18", f"hydra.run.dir={tmp_path / 'a'}") == 2
    assert "leaves one of 343 at the end of every epoch; take trainer.batch_size=20." in capfd.readouterr().err
    assert not (tmp_path / "a" / "events.jsonl").exists()
    assert train(*overrides, "trainer.batch_size=20", f"hydra.run.dir={tmp_path / 'b'}") == 0

"""The recording: it changes nothing, leaves nothing behind, and measures what the step really used."""

from __future__ import annotations

import math
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradkit.errors import ConfigError, RunFolderError
from gradkit.trajectory import Recording, Trajectory, compare
from gradkit.trajectory.runs import trajectory_of_run
from gradkit.trajectory.tolerances import bounds_for
from tests.observe.leaks import no_leaks, surroundings
from tests.trajectory.loops import OPTIMIZERS, data, network, train

__all__ = ["no_leaks"]


def hooks() -> dict[str, int]:
    module = sys.modules["torch.nn.modules.module"]
    return {name: len(value) for name, value in vars(module).items() if name.startswith("_global") and value}


def loop(optimizer_name: str, recorded: bool) -> tuple[nn.Module, torch.Tensor, Recording]:
    torch.manual_seed(0)
    features, targets = data(torch.float32)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 1))
    optimizer = OPTIMIZERS[optimizer_name](model.parameters(), 1.0, 0.01, 0.9)
    recording = Recording(model, optimizer)

    def run() -> None:
        for x, y in zip(features.split(16), targets.split(16), strict=True):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(-1), y).backward()
            optimizer.step()

    if recorded:
        with recording:
            run()
    else:
        run()
    return model, torch.get_rng_state(), recording


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_recorded_training_is_bit_identical_and_nothing_stays_attached(optimizer: str) -> None:
    before = hooks(), surroundings()
    plain, state, _ = loop(optimizer, recorded=False)
    recorded, state_after, recording = loop(optimizer, recorded=True)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), recorded.parameters(), strict=True))
    assert torch.equal(state, state_after)
    assert (hooks(), surroundings()) == before
    assert len(recording.trajectory.rows) == 5


def test_every_number_is_what_the_step_used() -> None:
    model = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0]]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with Recording(model, optimizer) as recording:
        for x in (torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 2.0]])):
            optimizer.zero_grad()
            loss = model(x.double()).sum()
            loss.backward()
            optimizer.step()
    first, second = recording.trajectory.rows
    assert (first["loss"], first["samples"], first["lr"]) == (3.0, 1, 0.5)
    assert (first["weight_norm_l2"], first["grad_norm_l2"], first["update_norm_l2"]) == (5.0, 1.0, 0.5)
    assert first["grad_weight_cosine"] == pytest.approx(3 / 5, abs=1e-15)
    assert first["update_grad_cosine"] == pytest.approx(-1.0, abs=1e-15)
    assert first["update_weight_cosine"] == pytest.approx(-3 / 5, abs=1e-15)
    assert "grad_previous_cosine" not in first
    assert (second["loss"], second["samples"], second["grad_norm_l2"]) == (16.0, 2, 4.0)
    assert second["grad_previous_cosine"] == second["update_previous_cosine"] == 0.0
    print_ = recording.trajectory.parameters["weight"]
    assert (print_.shape, print_.initial[0], print_.first_gradient[0]) == ((1, 2), 5.0, 1.0)
    assert print_.final[0] == pytest.approx(math.hypot(2.5, 2.0))
    assert recording.trajectory.dtype == "float64"
    assert recording.trajectory.settings["optimizer"] == "SGD"


def test_the_signature_of_samples_knows_them_in_any_order_and_grouping() -> None:
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    features, _ = data(torch.float32)

    def signatures(*batches: torch.Tensor) -> list[float]:
        with Recording(model, optimizer) as recording:
            for batch in batches:
                model(batch).sum().backward()
                optimizer.step()
        return [row["batch_signature"] for row in recording.trajectory.rows]

    (whole,) = signatures(features)
    (turned,) = signatures(features.flip(0))
    parts = signatures(*features.split(16))
    (other,) = signatures(features * 1.0001)
    (swapped,) = signatures(features.flip(1))
    assert turned == pytest.approx(whole, rel=1e-12) and sum(parts) == pytest.approx(whole, rel=1e-12)
    assert abs(other / whole - 1) > 1e-5 and abs(swapped / whole - 1) > 1e-5


def test_a_window_of_micro_batches_is_one_step_with_all_its_samples_and_losses() -> None:
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    features, _ = data(torch.float32)
    with Recording(model, optimizer) as recording:
        for window in range(2):
            optimizer.zero_grad()
            for part in features[window * 32 : window * 32 + 32].split(8):
                (model(part).square().mean() / 4).backward()
            with torch.no_grad():
                model(features)  # an evaluation is no sample of a step
            optimizer.step()
    assert [row["samples"] for row in recording.trajectory.rows] == [32, 32]
    with torch.no_grad():
        assert recording.trajectory.rows[0]["loss"] > 0


def test_a_closure_is_measured_inside_its_step() -> None:
    def trained(name: str) -> Trajectory:
        model = network(0, torch.float64)
        features, targets = data(torch.float64)
        kind = {"sgd": torch.optim.SGD, "lbfgs": torch.optim.LBFGS}[name]
        optimizer = kind(model.parameters(), lr=0.1)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(model(features).squeeze(-1), targets)
            loss.backward()
            return loss

        with Recording(model, optimizer) as recording:
            for _ in range(3):
                optimizer.step(closure)
        return recording.trajectory

    by_closure, searched = trained("sgd"), trained("lbfgs")
    assert [row["samples"] for row in by_closure.rows] == [70, 70, 70]
    assert all(row["update_norm_l2"] == pytest.approx(0.1 * row["grad_norm_l2"]) for row in by_closure.rows)
    # LBFGS evaluates up to 20 times a step; what is recorded is where the step began.
    assert [row["samples"] for row in searched.rows] == [70, 70, 70]
    assert searched.rows[0]["loss"] == by_closure.rows[0]["loss"]
    assert searched.rows[2]["loss"] < by_closure.rows[2]["loss"]


def test_two_optimizers_have_rows_of_their_own_and_a_past_of_their_own() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 1)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (first, second)]
    with Recording() as recording:
        for _ in range(2):
            second(first(torch.ones(4, 3))).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    rows = recording.trajectory.rows
    assert len(rows) == 4
    assert rows[0]["loss"] == rows[1]["loss"] != rows[2]["loss"]
    assert set(recording.trajectory.parameters) == {"weight", "bias", "weight#2", "bias#2"}


def test_naming_a_model_leaves_others_out() -> None:
    wanted, other = nn.Linear(3, 1), nn.Linear(3, 1)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (wanted, other)]
    with Recording(wanted) as recording:
        for model, optimizer in zip((wanted, other), optimizers, strict=True):
            model(torch.ones(4, 3)).sum().backward()
            optimizer.step()
    assert len(recording.trajectory.rows) == 1
    assert set(recording.trajectory.parameters) == {"weight", "bias"}


def test_an_update_made_by_hand_is_recorded_like_an_optimizers() -> None:
    def by_hand() -> Trajectory:
        model, (features, targets) = network(0, torch.float64), data(torch.float64)
        with Recording(model) as recording:
            for x, y in zip(features.split(16), targets.split(16), strict=True):
                nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(-1), y).backward()
                with recording.step(list(model.parameters())), torch.no_grad():
                    for parameter in model.parameters():
                        parameter -= 0.1 * parameter.grad
                model.zero_grad()
        return recording.trajectory

    reference = train("sgd", dtype=torch.float64, decay=0.0, l1=0.0, l2=0.0, epochs=1)
    rows = [{name: value for name, value in row.items() if name != "lr"} for row in reference.rows]
    golden = Trajectory(rows, reference.parameters, dtype="float64")
    assert compare(golden, by_hand(), bounds_for(golden)) is None


def test_a_loop_without_modules_hands_in_its_samples_and_loss() -> None:
    w = torch.tensor(1.0, dtype=torch.float64)
    x = torch.tensor([[6.7]], dtype=torch.float64)
    with Recording() as recording:
        for _ in range(2):
            recording.batch(x)
            w.grad = (torch.sigmoid(w * x) * x).sum()  # y = 0, by hand
            with recording.step([w], loss=-torch.log(1 - torch.sigmoid(w * x)).item()):
                w -= 0.1 * w.grad
    assert [row["samples"] for row in recording.trajectory.rows] == [1, 1]
    assert recording.trajectory.rows[0]["grad_norm_l2"] == pytest.approx(6.6918, abs=5e-5)
    assert recording.trajectory.rows[0]["loss"] == pytest.approx(6.7012, abs=5e-5)
    assert set(recording.trajectory.parameters) == {"parameter 0"}


def test_a_compiled_model_is_recorded_like_the_same_one_uncompiled() -> None:
    def trained(compiled: bool) -> Trajectory:
        model, (features, targets) = network(0, torch.float64), data(torch.float64)
        called = torch.compile(model, backend="eager") if compiled else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with Recording(model) as recording:
            for x, y in zip(features.split(35), targets.split(35), strict=True):
                optimizer.zero_grad()
                nn.functional.binary_cross_entropy_with_logits(called(x).squeeze(-1), y).backward()
                optimizer.step()
        return recording.trajectory

    plain = trained(False)
    assert [row["samples"] for row in plain.rows] == [35, 35]
    compiled = trained(True)
    # Hooks on modules would be compiled in, so the samples of compiled models are not seen.
    assert not {"samples", "batch_signature"} & {*compiled.columns}
    assert compare(plain, compiled, bounds_for(plain)) is None
    torch._dynamo.reset()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_values_stay_there_until_the_end() -> None:
    model, (features, targets) = network(0, torch.float32).cuda(), data(torch.float32)
    features, targets = features.cuda(), targets.cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Recording(model, optimizer) as recording:
        torch.cuda.set_sync_debug_mode("error")
        try:
            for x, y in zip(features.split(16), targets.split(16), strict=True):
                optimizer.zero_grad()
                nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(-1), y).backward()
                optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    reference = train("sgd", decay=0.0, l1=0.0, l2=0.0, epochs=1)
    # Other kernels than the CPU's, which the golden's tolerance is not made for.
    assert compare(reference, recording.trajectory, bounds_for(reference, rtol=1e-3)) is None


def test_sparse_gradients_tied_weights_and_scalars_are_measured() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 3, sparse=True)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return (self.embedding(tokens) @ self.embedding.weight.detach().T * self.scale).sum()

    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Recording(model, optimizer) as recording:
        model(tokens=torch.tensor([[1, 1, 2]])).backward()
        optimizer.step()
    (row,) = recording.trajectory.rows
    assert row["grad_norm_l2"] > 0 and row["samples"] == 1
    assert recording.trajectory.parameters["embedding.weight"].first_gradient is not None


def test_reading_before_the_end_and_targets_that_are_none_are_refused() -> None:
    recording = Recording()
    with pytest.raises(ConfigError, match="after its `with` block has ended"):
        _ = recording.trajectory
    with pytest.raises(ConfigError, match="not int"):
        Recording(3)


def test_an_exception_in_the_loop_is_the_loops_own_and_leaves_nothing_attached() -> None:
    before = hooks()
    with pytest.raises(ZeroDivisionError), Recording():
        nn.Linear(2, 1)(torch.ones(1, 2)).sum().backward()
        1 / 0  # noqa: B018
    assert hooks() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_unchanged_passes_20_of_20_times(threads: int, tmp_path: Path) -> None:
    train("adamw", epochs=1).write(tmp_path / "golden.json")
    golden = Trajectory.read(tmp_path / "golden.json")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        passed = sum(compare(golden, train("adamw", epochs=1), bounds_for(golden)) is None for _ in range(20))
    finally:
        torch.set_num_threads(before)
    assert passed == 20


def test_a_model_large_enough_for_threads_to_share_passes_on_one_and_two() -> None:
    def large(threads: int) -> Trajectory:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 1))
            features = torch.randn(512, 64)
            targets = (features[:, :3].sum(1) > 0).float()
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            with Recording(model, optimizer) as recording:
                for _ in range(4):
                    optimizer.zero_grad()
                    nn.functional.binary_cross_entropy_with_logits(model(features).squeeze(-1), targets).backward()
                    optimizer.step()
        finally:
            torch.set_num_threads(before)
        return recording.trajectory

    one = large(1)
    assert compare(one, large(2), bounds_for(one)) is None


def test_training_in_another_thread_is_recorded_too() -> None:
    found: list[Any] = []
    with Recording() as recording:
        worker = threading.Thread(target=lambda: found.append(loop("sgd", recorded=False)))
        worker.start()
        worker.join()
    assert found and len(recording.trajectory.rows) == 5


# --- run folders --------------------------------------------------------------------------------------------------


def test_a_run_folder_gives_its_steps_final_weights_and_configuration(tmp_path: Path) -> None:
    from tests.train.runs import train_into

    quick = ("trainer.epochs=1", "trainer.accelerator=cpu", "model=mlp", "model.hidden=[4]")
    train_into(tmp_path / "run", *quick)
    train_into(tmp_path / "again", *quick)
    train_into(tmp_path / "rate", *quick, "optimizer.lr=0.101")
    train_into(tmp_path / "decay", *quick, "optimizer.weight_decay=0.01")
    golden = trajectory_of_run(tmp_path / "run")
    assert golden.columns == ("lr", "loss", "grad_norm_l2") and len(golden.rows) == 6
    assert golden.dtype == "float32" and golden.settings["optimizer.lr"] == 0.1
    assert not any(str(tmp_path) in str(value) for value in golden.settings.values())
    assert all(each.final is not None for each in golden.parameters.values())
    bounds = bounds_for(golden)
    assert compare(golden, trajectory_of_run(tmp_path / "again"), bounds) is None
    from gradkit.trajectory import diagnose

    for name, kind, words in (("rate", "learning-rate", "1.01"), ("decay", "weight-decay", "optimizer.weight_decay")):
        other = trajectory_of_run(tmp_path / name)
        difference = compare(golden, other, bounds)
        assert difference is not None
        diagnosis = diagnose(golden, other, difference, bounds)
        assert (diagnosis.kind, words in diagnosis.sentence) == (kind, True), diagnosis


def test_a_run_in_this_process_can_be_recorded_in_full(tmp_path: Path) -> None:
    from tests.train.runs import train_into

    with Recording() as recording:
        train_into(tmp_path / "run", "trainer.epochs=1", "trainer.accelerator=cpu")
    rows, events = recording.trajectory.rows, trajectory_of_run(tmp_path / "run").rows
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in events], rel=1e-6)
    assert [row["grad_norm_l2"] for row in rows] == pytest.approx([row["grad_norm_l2"] for row in events], rel=1e-6)
    assert [row["samples"] for row in rows] == [64] * 5 + [23]


def test_a_folder_without_a_run_or_without_steps_is_refused(tmp_path: Path) -> None:
    from tests.train.runs import train_into

    with pytest.raises(RunFolderError, match="is no run folder"):
        trajectory_of_run(tmp_path)
    train_into(tmp_path / "run", "trainer.max_steps=1", "trainer.record=false", "trainer.accelerator=cpu")
    with pytest.raises(RunFolderError, match=r"recorded no steps; train with trainer\.record=true"):
        trajectory_of_run(tmp_path / "run")


# --- Lightning ----------------------------------------------------------------------------------------------------


def test_a_lightning_trainer_is_recorded_like_the_plain_loop(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    features, targets = data(torch.float32)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(0, torch.float32)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            x, y = batch
            return nn.functional.binary_cross_entropy_with_logits(self.net(x).squeeze(-1), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(features, targets), batch_size=16)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    with Recording() as recording, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about the number of data workers
        trainer.fit(Module(), loader)
    reference = train("sgd", decay=0.0, l1=0.0, l2=0.0, epochs=1)
    found = recording.trajectory
    renamed = {name.removeprefix("net."): each for name, each in found.parameters.items()}
    now = Trajectory(found.rows, renamed, found.settings, found.dtype)
    assert compare(reference, now, bounds_for(reference)) is None

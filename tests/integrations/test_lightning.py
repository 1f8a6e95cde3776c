"""The Lightning callback: findings at the user's lines, logged, and a fit that stays what it was."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradkit.errors import ConfigError, HygieneError
from gradkit.integrations.lightning import GradientHygiene

pytest.importorskip("lightning.pytorch")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


def module_of(framework: Any) -> type:
    class Logistic(framework.LightningModule):
        def __init__(self, fault: str = "") -> None:
            super().__init__()
            self.fault = fault
            self.automatic_optimization = not fault.startswith("manual")
            self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 1)

        def loss(self, batch: Any) -> torch.Tensor:
            x, y = batch
            return nn.functional.binary_cross_entropy_with_logits(self.head(self.body(x).tanh()).squeeze(-1), y)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.automatic_optimization:
                return self.loss(batch)
            optimizer = self.optimizers()
            if self.fault != "manual without clearing":
                optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()
            return None

        def optimizer_zero_grad(self, *args: Any) -> None:
            if self.fault != "automatic without clearing":
                super().optimizer_zero_grad(*args)

        def configure_optimizers(self) -> Any:
            held = self.body.parameters() if self.fault == "head left out" else self.parameters()
            return torch.optim.SGD(held, lr=0.1)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.loss(batch)

    return Logistic


def fit(
    framework: Any, tmp_path: Path, fault: str = "", callback: Any = None, epochs: int = 3, **options: Any
) -> tuple[Any, Any]:
    torch.manual_seed(0)
    module = module_of(framework)(fault)
    x = torch.randn(40, 4)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).float())
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    loggers = importlib.import_module(f"{framework.__name__}.loggers")
    trainer = framework.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[callback] if callback else [],
        logger=loggers.CSVLogger(tmp_path, name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, loader, loader)
    return module, trainer


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def framework(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


FAULTS = {
    "automatic without clearing": ("GK101", "training_step"),
    "manual without clearing": ("GK101", "training_step"),
    "head left out": ("GK401", "configure_optimizers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_at_the_users_line_and_logged(framework: Any, tmp_path: Path, fault: str) -> None:
    callback = GradientHygiene(report="never")
    fit(framework, tmp_path, fault, callback)
    rule, function = FAULTS[fault]
    (finding,) = callback.findings
    assert finding.rule == rule
    assert finding.location is not None
    assert finding.location.function.rpartition(".")[2] == function
    assert Path(finding.location.file) == Path(__file__)
    logged = (tmp_path / "metrics.csv").read_text()
    assert f"gradkit/{rule}" in logged
    assert "gradkit/errors" in logged


@pytest.mark.parametrize("fault", ["", "manual"])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"gradient_clip_val": 0.5}], ids=str)
def test_a_correct_fit_is_silent_and_unchanged(
    framework: Any, tmp_path: Path, fault: str, options: dict[str, Any]
) -> None:
    if fault and options:
        pytest.skip("manual optimization refuses these options")
    bare, _ = fit(framework, tmp_path / "bare", fault, **options)
    callback = GradientHygiene(report="never")
    watched, trainer = fit(framework, tmp_path / "watched", fault, callback, **options)
    assert callback.findings == ()
    assert callback.monitor.info.steps == trainer.global_step
    assert callback.monitor.attached == ()
    for one, other in zip(bare.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    logged = tmp_path / "watched" / "metrics.csv"
    assert not logged.exists() or "gradkit" not in logged.read_text()


def test_accumulation_is_known_from_the_trainer(framework: Any, tmp_path: Path) -> None:
    callback = GradientHygiene(report="never")
    fit(framework, tmp_path, callback=callback, accumulate_grad_batches=3)
    assert callback.monitor.accumulate == 3
    fit(framework, tmp_path, callback=callback)
    assert callback.monitor.accumulate is None
    told = GradientHygiene(report="never", accumulate=4)
    fit(framework, tmp_path, callback=told, accumulate_grad_batches=3)
    assert told.monitor.accumulate == 4


def test_windows_that_grow_on_purpose_are_not_declared(framework: Any, tmp_path: Path) -> None:
    schedule = importlib.import_module(f"{framework.__name__}.callbacks").GradientAccumulationScheduler({0: 1, 1: 2})
    callback = GradientHygiene(report="never")
    torch.manual_seed(0)
    trainer = framework.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[schedule, callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    x = torch.randn(32, 4)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).float())
    trainer.fit(module_of(framework)(), torch.utils.data.DataLoader(data, batch_size=8))
    assert callback.monitor.accumulate is None
    assert callback.findings == ()


def test_a_fit_that_raises_leaves_nothing_attached(framework: Any, tmp_path: Path) -> None:
    callback = GradientHygiene(report="never", halt_on="error")
    with pytest.raises(HygieneError, match="GK101"):
        fit(framework, tmp_path, "automatic without clearing", callback)
    assert callback.monitor.attached == ()
    assert [finding.rule for finding in callback.findings] == ["GK101"]


def test_validation_alone_is_left_alone(framework: Any, tmp_path: Path) -> None:
    callback = GradientHygiene(report="never")
    module, trainer = fit(framework, tmp_path, callback=callback)
    steps = callback.monitor.info.steps
    data = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.ones(8))
    trainer.validate(module, torch.utils.data.DataLoader(data, batch_size=4), verbose=False)
    assert callback.monitor.info.steps == steps
    assert callback.monitor.attached == ()


def test_a_bad_option_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="GK9999"):
        GradientHygiene(select=["GK9999"])


def test_the_callback_is_one_of_every_package_in_use() -> None:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        if name in sys.modules and "gradkit.integrations.lightning" in sys.modules:
            importlib.reload(sys.modules["gradkit.integrations.lightning"])
            assert issubclass(sys.modules["gradkit.integrations.lightning"].GradientHygiene, sys.modules[name].Callback)

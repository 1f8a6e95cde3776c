"""Goldens of the training loop: every cheap model and optimizer, and every way to its gradient held to the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gradkit.config.folder import configs_folder
from gradkit.runs.store import Complaints, RunStore
from gradkit.train.command.compose import session as hydra_session
from gradkit.train.command.display import Display
from gradkit.train.command.plan import make_plan
from gradkit.train.running.context import JobContext
from gradkit.train.running.job import make_fabric
from gradkit.train.running.session import Session
from gradkit.train.schema import GROUPS, TrainConfig
from gradkit.trajectory import ParameterPrint, Trajectory
from gradkit.trajectory.measure import weight_print

OPTIMIZERS = tuple(GROUPS["optimizer"])
DERIVED = ("notebook", "logistic", "mlp")
"""Models with a hand-derived gradient."""
GRADIENTS = {name: ("autograd", "manual", "both") if name in DERIVED else ("autograd",) for name in GROUPS["model"]}
NEEDS = {"cnn_digits": ("data=digits_odd",), "mlp": ("model.hidden=[6,4]",), "deep_sigmoid": ("model.depth=3",)}
CHEAP = [name for name in GROUPS["model"] if name != "custom"]
STEPS = 4


@pytest.fixture(scope="module")
def configuration() -> Iterator[Callable[..., TrainConfig]]:
    """A configuration, composed as the command line composes it."""
    with hydra_session(None) as hydra:

        def composed(*overrides: str) -> TrainConfig:
            return make_plan(hydra, overrides, multirun=False, trust=()).arms[0].config

        yield composed


class Kept(RunStore):
    """Keeps events instead of writing them."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.steps: list[Mapping[str, Any]] = []

    def append(self, events: Iterable[Mapping[str, Any]]) -> None:
        self.steps += [event for event in events if event["event"] == "step"]


def trained(config: TrainConfig, folder: Path) -> Trajectory:
    """The first steps of a run, by the real session and loop, without evaluation and files."""
    kept = Kept()
    context = JobContext(run_folder=folder)
    display = Display("none", silent=True)
    run = Session(config, context, make_fabric(config), display, kept, Complaints(), 1)
    initial = {name: weight_print(tensor) for name, tensor in run.raw_model.named_parameters()}
    run.loop.on_epoch_end = lambda *_: None
    run.loop.run()
    run.recorder.flush()
    prints = {
        name: ParameterPrint(tuple(tensor.shape), initial[name], weight_print(tensor))
        for name, tensor in run.raw_model.named_parameters()
    }
    rows = [{name: float(step[name]) for name in ("lr", "loss", "grad_norm_l2")} for step in kept.steps]
    return Trajectory(rows, prints, dtype="float64" if config.trainer.precision == "64" else "float32")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", CHEAP)
def test_every_model_and_optimizer_by_every_gradient_follows_one_golden(
    configuration: Callable[..., TrainConfig],
    hold: Callable[..., None],
    tmp_path: Path,
    model: str,
    optimizer: str,
) -> None:
    """float64, where the hand-derived gradient and autograd agree to 1e-12 over a run (docs of `gradkit.train`), two
    orders below the tolerance of float64 goldens."""
    config = configuration(
        f"model={model}",
        f"optimizer={optimizer}",
        *NEEDS.get(model, ()),
        *(("trainer.batch_size=100000",) if optimizer == "lbfgs" else ()),
        *("trainer.precision=64", f"trainer.max_steps={STEPS}", "trainer.accelerator=cpu", "watch=none"),
    )
    # The line search of LBFGS decides by differences of losses that are nearly equal, and amplifies their rounding: on
    # samples that change from step to step another processor's rounding sends it elsewhere altogether.
    rtol = 1e-6 if optimizer == "lbfgs" else None
    for position, gradient in enumerate(GRADIENTS[model]):
        now = replace(config, gradient=replace(config.gradient, name=gradient))
        hold(trained(now, tmp_path), f"training/{model}-{optimizer}", write=position == 0, rtol=rtol)


@pytest.mark.parametrize("overrides", [("trainer.accumulate=2",), ("trainer.clip_norm=0.05",), ("schedule=one_cycle",)])
def test_other_forms_of_the_loop_follow_their_golden(
    configuration: Callable[..., TrainConfig], hold: Callable[..., None], tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    config = configuration(*overrides, f"trainer.max_steps={STEPS}", "trainer.accelerator=cpu", "watch=none")
    name = overrides[0].replace("trainer.", "").replace("=", "-")
    hold(trained(config, tmp_path), f"training/logistic-{name}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optimizer.lr=0.101", "the learning rate is multiplied by 1.01"),
        ("seed=1", "or other samples where the weights are zero"),
        ("optimizer=momentum", "step 1 began the same way"),
        ("fault=unzeroed", "not cleared after the step before"),
    ],
)
def test_a_change_of_the_loop_is_caught_by_its_golden(
    configuration: Callable[..., TrainConfig], hold: Callable[..., None], tmp_path: Path, change: str, words: str
) -> None:
    common = ("trainer.precision=64", f"trainer.max_steps={STEPS}", "trainer.accelerator=cpu", "watch=none")
    config = configuration(*common, change)
    with pytest.raises(AssertionError, match=words):
        hold(trained(config, tmp_path), "training/logistic-sgd", write=False)


def test_there_is_a_golden_for_every_model_and_optimizer_and_none_besides() -> None:
    folder = Path(__file__).parent / "goldens" / "training"
    pairs = {f"{model}-{optimizer}" for model in CHEAP for optimizer in OPTIMIZERS}
    others = {"logistic-accumulate-2", "logistic-clip_norm-0.05", "logistic-schedule-one_cycle"}
    assert {path.stem for path in folder.iterdir()} == pairs | others
    assert configs_folder().is_dir() and torch.get_default_dtype() is torch.float32

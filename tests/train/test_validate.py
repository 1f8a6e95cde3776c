import importlib.util
from collections.abc import Callable
from dataclasses import replace

import pytest

from gradkit.config.ranges import check_ranges
from gradkit.errors import ConfigError
from gradkit.train.command import validate
from gradkit.train.command.combinations import COMBINATIONS
from gradkit.train.command.validate import check, nearest_path
from gradkit.train.schema import TrainConfig
from gradkit.train.schema.data import (
    BreastCancerData,
    CsvData,
    DigitsOddData,
    NpyData,
    SyntheticData,
    WorkedExampleData,
)
from gradkit.train.schema.faults import SteppedTwiceFault, UnzeroedFault
from gradkit.train.schema.loop import TrainerConfig
from gradkit.train.schema.models import (
    CnnDigitsModel,
    CustomLoss,
    CustomModel,
    GradientConfig,
    LogisticModel,
    LossConfig,
    MlpModel,
    NotebookModel,
)
from gradkit.train.schema.optimizers import (
    AdamOptimizer,
    CosineSchedule,
    LbfgsOptimizer,
    OneCycleSchedule,
    SgdOptimizer,
    WarmupSchedule,
)


def config(**parts) -> TrainConfig:
    base = TrainConfig(
        data=BreastCancerData(), model=LogisticModel(), optimizer=SgdOptimizer(), trainer=TrainerConfig(seed=0)
    )
    return replace(base, **parts)


def trainer(**values) -> TrainerConfig:
    return TrainerConfig(seed=0, **values)


def synthetic(**values) -> SyntheticData:
    return SyntheticData(seed=0, **values)


def sparse(**values) -> CustomModel:
    return CustomModel(target="pkg.Net", sparse_gradients=True, **values)


# Each combination that is refused, what its message says, and the nearest one that is not.
PAIRS: dict[str, tuple[TrainConfig, str, TrainConfig]] = {
    "evaluate without run": (config(mode="evaluate"), "run=FOLDER", config(mode="evaluate", run="x")),
    "run without evaluate": (config(run="x"), "mode=evaluate", config(run="x", mode="evaluate")),
    "evaluate and resume": (
        config(mode="evaluate", run="x", trainer=trainer(resume="x")),
        "one of them",
        config(trainer=trainer(resume="x")),
    ),
    "manual without a derivation": (
        config(gradient=GradientConfig("manual"), model=CnnDigitsModel(), data=DigitsOddData()),
        "gradient=manual",
        config(gradient=GradientConfig("manual"), model=MlpModel()),
    ),
    "both with a custom model": (
        config(gradient=GradientConfig("both"), model=CustomModel(target="pkg.Net")),
        "model=custom",
        config(gradient=GradientConfig("both"), model=NotebookModel()),
    ),
    "both without a record": (
        config(gradient=GradientConfig("both"), trainer=trainer(record=False)),
        "trainer.record=false",
        config(gradient=GradientConfig("manual"), trainer=trainer(record=False)),
    ),
    "manual in bf16-mixed": (
        config(gradient=GradientConfig("manual"), trainer=trainer(precision="bf16-mixed")),
        "bf16-mixed",
        config(gradient=GradientConfig("manual"), trainer=trainer(precision="64")),
    ),
    "manual compiled": (
        config(gradient=GradientConfig("manual"), trainer=trainer(compile=True)),
        "trainer.compile",
        config(trainer=trainer(compile=True)),
    ),
    "manual with a custom loss": (
        config(gradient=GradientConfig("both"), loss=CustomLoss(target="pkg.loss")),
        "loss=custom",
        config(loss=CustomLoss(target="pkg.loss")),
    ),
    "a fault without a backward": (
        config(gradient=GradientConfig("manual"), fault=UnzeroedFault()),
        "gradient=manual runs no backward",
        config(gradient=GradientConfig("both"), fault=UnzeroedFault()),
    ),
    "lbfgs stepped twice": (
        config(optimizer=LbfgsOptimizer(), fault=SteppedTwiceFault()),
        "within its step",
        config(optimizer=LbfgsOptimizer(), fault=UnzeroedFault()),
    ),
    "lbfgs with weight decay": (
        config(optimizer=LbfgsOptimizer(weight_decay=0.1)),
        "loss.l2",
        config(optimizer=LbfgsOptimizer(), loss=LossConfig(l2=0.1), trainer=trainer(accumulate=4)),
    ),
    "lbfgs in 16-mixed": (
        config(optimizer=LbfgsOptimizer(), trainer=trainer(precision="16-mixed")),
        "16-mixed",
        config(optimizer=LbfgsOptimizer(), trainer=trainer(precision="bf16-mixed")),
    ),
    "lbfgs on two devices": (
        config(optimizer=LbfgsOptimizer(), trainer=trainer(devices=2)),
        "trainer.devices",
        config(trainer=trainer(devices=2)),
    ),
    "lbfgs from a learning rate of 0": (
        config(optimizer=LbfgsOptimizer(), schedule=WarmupSchedule()),
        "learning rate of 0",
        config(optimizer=LbfgsOptimizer(), schedule=CosineSchedule()),
    ),
    "nesterov without momentum": (
        config(optimizer=SgdOptimizer(nesterov=True)),
        "optimizer.momentum > 0",
        config(optimizer=SgdOptimizer(nesterov=True, momentum=0.5)),
    ),
    "sparse gradients with adam": (
        config(model=sparse(), optimizer=AdamOptimizer()),
        "dense gradients",
        config(model=sparse(), optimizer=SgdOptimizer(momentum=0.9)),
    ),
    "sparse gradients with weight decay": (
        config(model=sparse(), optimizer=SgdOptimizer(weight_decay=0.1)),
        "optimizer.weight_decay=0",
        config(model=CustomModel(target="pkg.Net"), optimizer=SgdOptimizer(weight_decay=0.1)),
    ),
    "sparse gradients clipped": (
        config(model=sparse(), trainer=trainer(clip_norm=1.0)),
        "trainer.clip_norm",
        config(model=sparse()),
    ),
    "digits network without digits": (
        config(model=CnnDigitsModel()),
        "data=digits_odd",
        config(model=CnnDigitsModel(), data=DigitsOddData()),
    ),
    "feature 30 of 30": (
        config(model=NotebookModel(feature=30)),
        "30 feature",
        config(model=NotebookModel(feature=29)),
    ),
    "feature 2 of 2 chosen": (
        config(model=NotebookModel(feature=2), data=BreastCancerData(features=["a", "b"])),
        "2 feature",
        config(model=NotebookModel(feature=1), data=BreastCancerData(features=["a", "b"])),
    ),
    "feature 5 of 5 dimensions": (
        config(model=NotebookModel(feature=5), data=synthetic(dimensions=5)),
        "5 feature",
        config(model=NotebookModel(feature=4), data=synthetic(dimensions=5)),
    ),
    "feature 64 of an image": (
        config(model=NotebookModel(feature=64), data=DigitsOddData()),
        "64 feature",
        config(model=NotebookModel(feature=63), data=DigitsOddData()),
    ),
    "feature 1 of one": (
        config(model=NotebookModel(feature=1), data=WorkedExampleData()),
        "1 feature",
        config(model=NotebookModel(), data=WorkedExampleData()),
    ),
    "no hidden layer": (config(model=MlpModel(hidden=[])), "model.hidden", config(model=MlpModel(hidden=[1]))),
    "batch-norm over one sample": (
        config(model=MlpModel(batch_norm=True), trainer=trainer(batch_size=1)),
        "trainer.batch_size > 1",
        config(model=MlpModel(batch_norm=True), trainer=trainer(batch_size=2)),
    ),
    "standardised worked example": (
        config(data=WorkedExampleData(standardize=True)),
        "data.standardize",
        config(data=WorkedExampleData()),
    ),
    "nothing left to train on": (
        config(data=BreastCancerData(validation_fraction=0.5, test_fraction=0.5)),
        "below 1",
        config(data=BreastCancerData(validation_fraction=0.5, test_fraction=0.4)),
    ),
    "no feature": (config(data=BreastCancerData(features=[])), "data.features", config(data=BreastCancerData())),
    "a feature twice": (
        config(data=BreastCancerData(features=["a", "a"])),
        "twice",
        config(data=BreastCancerData(features=["a", "b"])),
    ),
    "target among the features": (
        config(data=CsvData(path=__file__, target="y", features=["x", "y"])),
        "data.features",
        config(data=CsvData(path=__file__, target="y", features=["x"])),
    ),
    "delimiter of two": (
        config(data=CsvData(path=__file__, target="y", delimiter=";;")),
        "data.delimiter",
        config(data=CsvData(path=__file__, target="y", delimiter=";")),
    ),
    "delimiter that is a quote": (
        config(data=CsvData(path=__file__, target="y", delimiter='"')),
        "or data.delimiter=tab; got '\"'",
        config(data=CsvData(path=__file__, target="y", delimiter="tab")),
    ),
    "delimiter that the parser took for nothing": (
        config(data=CsvData(path=__file__, target="y", delimiter="")),
        "or data.delimiter=tab; got ''",
        config(data=CsvData(path=__file__, target="y", delimiter="\\t")),
    ),
    "one character for two things": (
        config(data=CsvData(path=__file__, target="y", decimal=",")),
        "data.decimal=',' is the delimiter too",
        config(data=CsvData(path=__file__, target="y", decimal=",", delimiter=";")),
    ),
    "two clippings": (
        config(trainer=trainer(clip_norm=1.0, clip_value=1.0)),
        "one of them",
        config(trainer=trainer(clip_value=1.0)),
    ),
    "cosine over an unknown number of steps": (
        config(schedule=CosineSchedule(), trainer=trainer(max_seconds=60.0)),
        "trainer.max_steps",
        config(schedule=CosineSchedule(), trainer=trainer(max_seconds=60.0, max_steps=100)),
    ),
    "a cycle of one step": (
        config(schedule=OneCycleSchedule(), trainer=trainer(max_steps=1)),
        "at least 2 optimizer steps; got trainer.max_steps=1",
        config(schedule=OneCycleSchedule(), trainer=trainer(max_steps=2)),
    ),
    "float64 on mps": (
        config(trainer=trainer(accelerator="mps", precision="64")),
        "float64",
        config(trainer=trainer(accelerator="mps")),
    ),
}


@pytest.mark.parametrize("case", PAIRS)
def test_combination_is_refused_and_its_neighbour_is_not(case):
    broken, said, sound = PAIRS[case]
    with pytest.raises(ConfigError) as caught:
        check(broken, trust=["pkg"])
    assert said in str(caught.value)
    check(sound, trust=["pkg"])


def test_every_row_of_the_table_is_broken_by_a_case():
    rows = {
        position for broken, _, _ in PAIRS.values() for position, row in enumerate(COMBINATIONS) if row.broken(broken)
    }
    assert rows == set(range(len(COMBINATIONS)))


def test_16_mixed_on_cpu_is_left_to_the_run():
    check(config(trainer=trainer(precision="16-mixed", accelerator="cpu")))


RANGES: dict[str, tuple[Callable[[], TrainConfig], str, Callable[[], TrainConfig]]] = {
    "zero learning rate": (
        lambda: config(optimizer=SgdOptimizer(lr=0.0)),
        "optimizer.lr: expected a number > 0 (learning rate), got 0.0",
        lambda: config(optimizer=SgdOptimizer(lr=1e-300)),
    ),
    "infinite learning rate": (
        lambda: config(optimizer=SgdOptimizer(lr=float("inf"))),
        "optimizer.lr: expected a finite number",
        lambda: config(optimizer=SgdOptimizer(lr=1e300)),
    ),
    "nan": (
        lambda: config(data=WorkedExampleData(x=float("nan"))),
        "data.x: expected a finite number",
        lambda: config(data=WorkedExampleData(x=-1e9)),
    ),
    "dropout of one": (
        lambda: config(model=MlpModel(dropout=1.0)),
        "model.dropout: expected a number >= 0, < 1",
        lambda: config(model=MlpModel(dropout=0.99)),
    ),
    "a width of zero": (
        lambda: config(model=MlpModel(hidden=[8, 0])),
        "model.hidden: expected a number >= 1, <= 65536",
        lambda: config(model=MlpModel(hidden=[8, 65536])),
    ),
    "a seed below zero": (lambda: config(seed=-1), "seed: expected a number >= 0", lambda: config(seed=2**32 - 1)),
    "more than 64 bits": (
        lambda: config(trainer=trainer(epochs=10**30)),
        "trainer.epochs: expected a number that fits 64 bits",
        lambda: config(trainer=trainer(epochs=2**63 - 1)),
    ),
    "a word": (
        lambda: config(trainer=trainer(precision="bf16")),
        "trainer.precision: expected one of 32, 64, bf16-mixed, 16-mixed, got 'bf16'. Did you mean 'bf16-mixed'?",
        lambda: config(trainer=trainer(precision="bf16-mixed")),
    ),
    "another choice's name": (
        lambda: config(model=LogisticModel(name="mlp")),
        "model.name: expected one of logistic",
        lambda: config(optimizer=AdamOptimizer(name="adamw")),
    ),
    "a null character": (lambda: config(name="a\0b"), "name: text may not hold a null", lambda: config(name="a b")),
}


@pytest.mark.parametrize("case", RANGES)
def test_values_out_of_range_are_refused_and_the_edge_is_not(case):
    broken, said, sound = RANGES[case]
    with pytest.raises(ConfigError) as caught:
        check_ranges(broken())
    assert str(caught.value).startswith(said)
    check_ranges(sound())


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("16", "16-mixed"),
        ("fp16", "16-mixed"),
        ("float16", "16-mixed"),
        ("bf16", "bf16-mixed"),
        ("bfloat16", "bf16-mixed"),
        ("bf16-true", "bf16-mixed"),
        ("32-true", "32"),
        ("fp32", "32"),
        ("64-true", "64"),
    ],
)
def test_the_nearest_precision_is_the_one_meant(given, meant):
    with pytest.raises(ConfigError) as caught:
        check_ranges(config(trainer=trainer(precision=given)))
    assert str(caught.value).endswith(f"got {given!r}. Did you mean {meant!r}?")


def test_no_word_is_suggested_where_none_is_near():
    for part in ({"precision": "double"}, {"precision": ""}, {"strategy": "-"}, {"accelerator": "tpu-v4"}):
        with pytest.raises(ConfigError) as caught:
            check_ranges(config(trainer=trainer(**part)))
        assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "package", "command"),
    [
        ({"data": CsvData(path=__file__, target="y")}, ["pyarrow"], "pip install gradkit[data]"),
        ({"logger": {"tensorboard": True}}, ["tensorboard", "tensorboardX"], "pip install gradkit[tensorboard]"),
    ],
)
def test_absent_package_is_named_with_its_command(part, package, command, monkeypatch):
    from gradkit.train.schema.loop import LoggerConfig

    part = {key: LoggerConfig(**value) if isinstance(value, dict) else value for key, value in part.items()}
    check(config(**part))
    find = importlib.util.find_spec
    monkeypatch.setattr(validate.importlib.util, "find_spec", lambda name: None if name in package else find(name))
    with pytest.raises(ConfigError) as caught:
        check(config(**part))
    assert command in str(caught.value)


def test_missing_file_is_named_with_the_nearest(tmp_path):
    (tmp_path / "table.npz").touch()
    check(config(data=NpyData(path=str(tmp_path / "table.npz"))))
    with pytest.raises(
        ConfigError, match=r"data\.path: there is no file .*tabel\.npz'\. Did you mean '.*table\.npz'\?"
    ):
        check(config(data=NpyData(path=str(tmp_path / "tabel.npz"))))
    assert "no folder" in nearest_path(tmp_path / "nowhere" / "x.csv")
    with pytest.raises(ConfigError, match="cannot read"):
        check(config(data=NpyData(path="x" * 5000)))


def test_a_file_below_the_home_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "table.npz").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    check(config(data=NpyData(path="~/table.npz")))
    with pytest.raises(ConfigError, match=r"there is no file '~/tabel\.npz'\. Did you mean '.*table\.npz'\?"):
        check(config(data=NpyData(path="~/tabel.npz")))
    with pytest.raises(ConfigError, match="there is no file '~nobody-of-this-name/x'"):
        check(config(data=NpyData(path="~nobody-of-this-name/x")))


def test_untrusted_target_is_refused_before_it_is_imported():
    with pytest.raises(ConfigError, match="--trust pkg"):
        check(config(model=CustomModel(target="pkg.Net")))
    check(config(model=CustomModel(target="pkg.Net")), trust=["pkg"])

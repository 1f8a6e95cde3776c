import dataclasses
import doctest
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from gradkit.config import arguments, fields, wording
from gradkit.config import folder as folder_module
from gradkit.config.folder import configs_folder
from gradkit.errors import ConfigError
from gradkit.train.command.compose import compose, session
from gradkit.train.command.plan import make_plan
from gradkit.train.schema import GROUPS, TrainConfig, data

# What each choice needs besides itself to be complete.
COMPLETING = {
    ("data", "csv"): ["data.path=table.csv", "data.target=y"],
    ("data", "parquet"): ["data.path=table.csv", "data.target=y"],
    ("data", "npy"): ["data.path=table.csv"],
    ("data", "worked_example"): ["model=notebook"],
    ("model", "cnn_digits"): ["data=digits_odd"],
    ("model", "custom"): ["model.target=pkg.Net"],
    ("loss", "custom"): ["loss.target=pkg.loss"],
}


def composed(*overrides: str, config_dir: Path | None = None, trust: Sequence[str] = ()) -> TrainConfig:
    with session(str(config_dir) if config_dir else None) as hydra:
        return make_plan(hydra, overrides, multirun=False, trust=trust).arms[0].config


def schema_defaults(schema: type) -> dict[str, Any]:
    return {
        field.name: field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
        for field in dataclasses.fields(schema)
    }


@pytest.mark.parametrize(("group", "choice"), [(group, choice) for group in GROUPS for choice in GROUPS[group]])
def test_every_choice_composes_to_its_own_schema(group, choice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("x,y\n1,0\n")
    config = composed(f"{group}={choice}", *COMPLETING.get((group, choice), []), trust=["pkg"])
    assert type(getattr(config, group)) is GROUPS[group][choice]


@pytest.mark.parametrize(("group", "choice"), [(group, choice) for group in GROUPS for choice in GROUPS[group]])
def test_yaml_files_state_every_key_of_their_schema(group, choice):
    content = yaml.safe_load((configs_folder() / group / f"{choice}.yaml").read_text())
    assert content.pop("defaults") == [f"/schema/{group}/{choice}@_here_", "_self_"]
    assert set(content) == {field.name for field in dataclasses.fields(GROUPS[group][choice])}


@pytest.mark.parametrize("group", GROUPS)
def test_default_choices_have_the_defaults_of_the_schema(group):
    part = getattr(composed(), group)
    expected = schema_defaults(type(part))
    if "seed" in expected:
        expected["seed"] = 0
    assert dataclasses.asdict(part) == expected


def test_every_yaml_file_belongs_to_a_schema_or_is_a_preset():
    found = {path.relative_to(configs_folder()).with_suffix("").as_posix() for path in configs_folder().rglob("*.yaml")}
    expected = {f"{group}/{choice}" for group in GROUPS for choice in GROUPS[group]} | {"train", "check"}
    assert {name for name in found if not name.startswith("preset/")} == expected


@pytest.mark.parametrize("preset", [path.stem for path in (configs_folder() / "preset").glob("*.yaml")])
def test_every_preset_composes_and_opens_with_its_command(preset):
    composed(f"preset={preset}")
    assert f"# python -m gradkit.train preset={preset}" in (configs_folder() / f"preset/{preset}.yaml").read_text()


def test_worked_example_preset_is_one_step_of_the_scalar_model():
    config = composed("preset=worked_example", "gradient=both")
    assert (config.data.name, config.model.name, config.gradient.name) == ("worked_example", "notebook", "both")
    assert (config.trainer.batch_size, config.trainer.epochs, config.optimizer.name) == (1, 1, "sgd")


def test_command_line_wins_over_a_preset_and_a_preset_over_the_defaults():
    assert composed("preset=large_synthetic").trainer.batch_size == 16384
    config = composed("preset=large_synthetic", "trainer.batch_size=7", "model=mlp")
    assert (config.trainer.batch_size, config.model.name, config.data.name) == (7, "mlp", "synthetic")


def test_seed_of_the_run_reaches_trainer_and_data():
    config = composed("data=synthetic", "seed=5")
    assert (config.trainer.seed, config.data.seed) == (5, 5)
    assert composed("data=synthetic", "seed=5", "trainer.seed=6").trainer.seed == 6


def test_run_ids_differ_between_compositions_and_agree_within_one():
    folders = []
    for _ in range(2):
        with session() as hydra:
            cfg = compose(hydra, [])
            folders.append(cfg.hydra.run.dir)
            assert cfg.hydra.run.dir.rpartition("-")[2] == cfg.hydra.sweep.dir.rpartition("-")[2]
    assert folders[0] != folders[1]


def test_configs_folder_prefers_the_one_inside_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site" / "gradkit"
    for folder in (package / "configs", package.parent / "configs"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(folder_module.gradkit, "__file__", str(package / "__init__.py"))
    with pytest.raises(ConfigError, match="install gradkit again"):
        configs_folder()
    (package.parent / "configs" / "train.yaml").touch()
    assert configs_folder() == (package.parent / "configs").resolve()
    (package / "configs" / "train.yaml").touch()
    assert configs_folder() == (package / "configs").resolve()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder


def test_own_choice_and_own_preset_are_found_in_a_config_dir(tmp_path):
    write(tmp_path, "model/wide.yaml", "defaults: [mlp, _self_]\nhidden: [512]\n")
    write(tmp_path, "preset/mine.yaml", "# @package _global_\ndefaults:\n  - override /model: wide\n")
    assert composed("preset=mine", config_dir=tmp_path).model.hidden == [512]


FILES = {
    "an unknown key": ("model/mine.yaml", "defaults: [mlp, _self_]\nhiden: [3]\n", "hiden"),
    "a wrong type": ("model/mine.yaml", "defaults: [mlp, _self_]\nhidden: wide\n", "hidden"),
    "no schema": ("model/mine.yaml", "name: mlp\n", "names no schema"),
    "no schema and more keys": ("model/mine.yaml", "name: mlp\nhidden: [3]\n", "hidden"),
    "a list": ("model/mine.yaml", "- 1\n", "mine"),
    "a syntax error": ("model/mine.yaml", "a: [1\n", "mine.yaml, line"),
    "a key twice": ("model/mine.yaml", "name: mlp\nname: mlp\n", "mine.yaml, line 2"),
    "a python tag": ("model/mine.yaml", "name: !!python/object/apply:os.system ['touch canary']\n", "line 1"),
    "bytes": (
        "model/mine.yaml",
        "defaults: [custom, _self_]\ntarget: pkg.Net\noptions: {a: !!binary aGk=}\n",
        "options",
    ),
    "a number as key": ("model/mine.yaml", "defaults: [custom, _self_]\ntarget: pkg.Net\noptions: {1: 2}\n", "options"),
    "no UTF-8": ("model/mine.yaml", "name: \udcff\n", "mine"),
    "a missing base": ("model/mine.yaml", "defaults: [mlpp, _self_]\n", "mlpp"),
    "itself as base": ("model/mine.yaml", "defaults: [mine, _self_]\n", "mine"),
    "an alias of itself": (
        "model/mine.yaml",
        "defaults: [custom, _self_]\ntarget: p.N\noptions: &a {b: *a}\n",
        "model",
    ),
    "a target": ("model/mine.yaml", "defaults: [logistic]\n_target_: os.system\n", "_target_"),
    "a target in options": (
        "model/mine.yaml",
        "defaults: [custom, _self_]\ntarget: pkg.Net\noptions: {layers: [{_target_: os.system}]}\n",
        "model.options.layers[0]._target_",
    ),
    "another package": ("model/mine.yaml", "# @package trainer\nresume: /tmp\n", "names no schema"),
    "a callback": (
        "model/mine.yaml",
        "# @package _global_\ndefaults: [logistic@model]\nhydra: {callbacks: {x: {_target_: os.system}}}\n",
        "hydra.callbacks.x._target_",
    ),
    "a launcher": (
        "model/mine.yaml",
        "# @package _global_\ndefaults: [logistic@model]\nhydra: {launcher: {_target_: os.system}}\n",
        "hydra.launcher._target_",
    ),
    "a log handler": (
        "model/mine.yaml",
        "# @package _global_\ndefaults: [logistic@model]\n"
        "hydra: {job_logging: {handlers: {x: {(): subprocess.Popen, args: [touch, canary]}}}}\n",
        "hydra.job_logging.handlers.x.()",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_configuration_files_are_refused_for(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, text, said = FILES[case]
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        composed("model=mine", config_dir=tmp_path / "mine", trust=["pkg", "p"])
    assert said in str(caught.value)
    assert not (tmp_path / "canary").exists()


def test_resume_in_a_configuration_file_is_refused(tmp_path):
    write(tmp_path, "preset/mine.yaml", "# @package _global_\ntrainer: {resume: /tmp}\n")
    with pytest.raises(ConfigError, match="command line only"):
        composed("preset=mine", config_dir=tmp_path)


def test_documented_examples_of_words_and_keys_hold():
    for module in (arguments, data, fields, wording):
        assert doctest.testmod(module).failed == 0
        assert doctest.testmod(module).attempted > 0

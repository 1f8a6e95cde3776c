import json
from pathlib import Path

import pytest

from gradkit.errors import ConfigError, GradkitError, RunFolderError
from gradkit.store import plain
from gradkit.train.command.compose import session
from gradkit.train.command.plan import Plan, _folders, make_plan
from gradkit.train.running.stored import check_same_run, read_stored


def planned(*overrides: str, multirun: bool = False, rank: int = 0, config_dir: Path | None = None) -> Plan:
    with session(str(config_dir) if config_dir else None) as hydra:
        return make_plan(hydra, overrides, multirun=multirun, trust=(), rank=rank)


def arms(*overrides: str, **options) -> list[tuple[str, ...]]:
    return [arm.overrides for arm in planned(*overrides, multirun=True, **options).arms]


# --- sweeps


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("seed=0,1", ["seed=0", "seed=1"]),
        ("seed=choice(3,5)", ["seed=3", "seed=5"]),
        ("seed=range(1,4)", ["seed=1", "seed=2", "seed=3"]),
        ("seed=range(6,0,-3)", ["seed=6", "seed=3"]),
        ("optimizer.lr=range(0.5,2,0.5)", ["optimizer.lr=0.5", "optimizer.lr=1.0", "optimizer.lr=1.5"]),
        ("model=glob(l*)", ["model=logistic"]),
        ("model=glob(*,exclude=[c*,d*,n*])", ["model=logistic", "model=mlp"]),
        ("inference=detach,tracked", ["inference=detach", "inference=tracked"]),
        ("name='a,b',c", ["name='a,b'", "name=c"]),
        ("trainer.max_steps=null,10", ["trainer.max_steps=null", "trainer.max_steps=10"]),
        ("data.features=[a,b],[c]", ["data.features=[a,b]", "data.features=[c]"]),
    ],
)
def test_sweeps_are_split_as_hydra_splits_them(given, expected):
    assert arms(given) == [(each,) for each in expected]


def test_sweep_is_the_product_of_all_sweeps_with_composed_configurations():
    plan = planned("seed=0,1", "model=mlp,logistic", "trainer.epochs=3", multirun=True)
    assert [(arm.config.seed, arm.config.model.name, arm.config.trainer.epochs) for arm in plan.arms] == [
        (0, "mlp", 3),
        (0, "logistic", 3),
        (1, "mlp", 3),
        (1, "logistic", 3),
    ]


def test_hydra_mode_multirun_is_a_sweep_too():
    assert planned("hydra.mode=MULTIRUN", "seed=0,1").multirun


def test_sweep_in_a_preset_is_expanded_and_the_command_line_wins(tmp_path):
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "mine.yaml").write_text(
        "# @package _global_\nhydra: {sweeper: {params: {seed: '0,1,2', optimizer: 'sgd,adam'}}}\n"
    )
    assert len(arms("preset=mine", config_dir=tmp_path)) == 6
    assert len(arms("preset=mine", "seed=7", config_dir=tmp_path)) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["model=mlp,logistc"], "logistic"),
        (["seed=0,-1"], "(in run 1 of the sweep: seed=-1)"),
        (["model=mlp,logistic", "model.hidden=[3]"], "in run 1 of the sweep"),
        (["seed=range(0,100000)"], "100000 runs"),
        (["seed=range(0,1e300)"], "at most 10000"),
        (["seed=range(0,101)", "trainer.epochs=range(1,101)"], "10100 runs"),
        (["seed=range(0,inf)"], "finite numbers"),
        (["seed=range(3,1)"], "no runs"),
        (["seed=range(0,3,0)"], "a step that is not 0"),
        (["seed=interval(0,1)"], "cannot be swept"),
        (["hydra.run.dir=a,b"], "cannot be swept"),
        (["hydra/launcher=basic,joblib"], "cannot be swept"),
        (["hydra.sweep.subdir=same", "seed=0,1"], "gives the runs 0 and 1 of the sweep one folder"),
        (["hydra/launcher=joblib", "trainer.devices=2", "seed=0,1"], "trainer.devices > 1"),
        (["preset=null,quick"], "leave it out"),
    ],
)
def test_one_bad_arm_refuses_the_whole_sweep(given, said):
    with pytest.raises(GradkitError) as caught:
        planned(*given, multirun=True)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "given", "together"),
    [
        ("lr-${optimizer.lr}", ["optimizer.lr=0.1,0.10,0.2"], (0, 1)),
        ("x/../${hydra.job.num}/..", ["seed=0,1"], (0, 1)),
        ("${model.name}", ["model=mlp,logistic,mlp", "seed=0"], (0, 2)),
        ("${hydra:job.override_dirname}", ["seed=0,1,0"], (0, 2)),
    ],
)
def test_two_arms_that_resolve_to_one_folder_are_named(pattern, given, together, tmp_path):
    with pytest.raises(ConfigError, match="gives the runs {} and {} of the sweep one folder".format(*together)):
        planned(*given, f"hydra.sweep.dir={tmp_path}", f"hydra.sweep.subdir='{pattern}'", multirun=True)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_has_one_folder():
    with pytest.raises(ConfigError, match=r"put what differs into hydra\.sweep\.subdir"):
        planned("seed=0,1", "hydra.sweep.dir=out/${seed}", multirun=True)


def test_folders_of_a_sweep_may_be_named_after_what_differs(tmp_path):
    plan = planned("hydra.sweep.subdir=${hydra.job.override_dirname}", "seed=0,1", multirun=True)
    assert len(plan.arms) == 2


def test_ten_thousand_runs_are_counted_exactly():
    with pytest.raises(ConfigError, match="10001 runs"):
        planned("seed=range(0,10001)", multirun=True)


def test_dry_run_lists_the_arms():
    text = planned("seed=0,1", "model=mlp", multirun=True).in_words()
    assert text.splitlines()[1:] == ["  0  seed=0 model=mlp", "  1  seed=1 model=mlp"]
    assert planned().in_words().splitlines() == ["1 run, checked; nothing was started.", "  0  (defaults)"]


# --- several processes


def test_other_ranks_make_no_folder_of_their_own():
    assert planned("seed=1", "hydra.run.dir=x", rank=1).overrides[-3:] == (
        "hydra.run.dir='.'",
        "hydra.output_subdir=null",
        "seed=1",
    )
    (folder,) = [each for each in planned("seed=1").overrides if each.startswith("hydra")]
    assert folder.startswith("hydra.run.dir=")  # pinned once, so that nothing else is resolved to it


def test_sweep_under_torchrun_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        planned("seed=0,1", multirun=True)


# --- stored runs


def stored_run(folder: Path, *overrides: str, **changes) -> Path:
    config = json.loads(json.dumps(plain(vars_of(planned(*overrides).arms[0].config))))
    manifest = {"schema_version": 1, "status": "completed", "overrides": list(overrides), "config": config} | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(manifest))
    return folder


def vars_of(config) -> dict:
    import dataclasses

    return dataclasses.asdict(config)


def test_resume_composes_stored_then_new_overrides_in_the_same_folder(tmp_path):
    run = stored_run(tmp_path / "a run, it's 1", "model=mlp", "seed=3", "trainer.epochs=2")
    plan = planned(f'trainer.resume="{run}"', "trainer.epochs=9")
    assert plan.arms[0].overrides == ("model=mlp", "seed=3", f'trainer.resume="{run}"', "trainer.epochs=9")
    assert (plan.arms[0].config.model.name, plan.arms[0].config.trainer.epochs) == ("mlp", 9)
    with session() as hydra:
        cfg = hydra.compose_config("train", list(plan.overrides), None, with_log_configuration=False)
    assert cfg.hydra.run.dir == str(run)
    assert cfg.hydra.output_subdir is None


@pytest.mark.parametrize("name", ["it's", "back\\slash", "end\\", "a'b\\'c\\\\", "a=b,c", "(x) [y] {z}", "ü 🙂"])
def test_folder_names_survive_the_way_through_hydras_grammar(name, tmp_path):
    run = stored_run(tmp_path / name)
    with session() as hydra:
        stored = read_stored(str(run), "trainer.resume")
        text = _folders(stored, [], 0)[0]
        assert hydra.compose_config("train", [text], None, with_log_configuration=False).hydra.run.dir == str(run)


def test_resuming_twice_does_not_pile_up_overrides(tmp_path):
    run = stored_run(tmp_path / "run", "seed=3")
    manifest = json.loads((run / "run.json").read_text())
    manifest["overrides"] = ["seed=3", "trainer.resume=elsewhere", "trainer.epochs=5"]
    manifest["config"]["trainer"]["epochs"] = 5
    (run / "run.json").write_text(json.dumps(manifest))
    assert planned(f"trainer.resume={run}", "trainer.epochs=6").arms[0].overrides == (
        "seed=3",
        f"trainer.resume={run}",
        "trainer.epochs=6",
    )


ALLOWED = [
    "trainer.epochs=99",
    "trainer.max_steps=5",
    "trainer.max_seconds=5",
    "logger=csv",
    "logger.csv=true",
    "trainer.progress=none",
    "trainer.flush_every=7",
    "trainer.checkpoint_every=null",
    "inference=detach",
    "name=again",
    "trainer.threads=1",
    "trainer.early_stopping=3",
]
REFUSED = [
    "data=synthetic",
    "data.standardize=false",
    "model=mlp",
    "model=notebook",
    "gradient=manual",
    "loss.l2=0.1",
    "loss=textbook",
    "optimizer=adam",
    "optimizer.lr=0.2",
    "schedule=cosine",
    "seed=4",
    "trainer.seed=4",
    "trainer.batch_size=32",
    "trainer.accumulate=2",
    "trainer.shuffle=none",
    "trainer.precision=64",
    "trainer.clip_norm=1",
    "trainer.compile=true",
    "preset=mlp_adam",
]


@pytest.mark.parametrize("override", ALLOWED)
def test_resume_may_change_what_leaves_the_trajectory_alone(override, tmp_path):
    planned(f"trainer.resume={stored_run(tmp_path / 'run', 'seed=3')}", override)


@pytest.mark.parametrize("override", REFUSED)
def test_resume_may_not_change_the_run(override, tmp_path):
    run = stored_run(tmp_path / "run", "seed=3")
    with pytest.raises(ConfigError, match="going on with a run cannot change it") as caught:
        planned(f"trainer.resume={run}", override)
    assert str(caught.value).split(".")[0].split(":")[0] in (override.split("=")[0].split(".")[0], "model", "data")


@pytest.mark.parametrize(
    ("schedule", "override"),
    [("cosine", "trainer.epochs=9"), ("one_cycle", "trainer.max_steps=null"), ("plateau", "trainer.evaluate_every=2")],
)
def test_resume_may_not_change_what_the_schedule_follows(schedule, override, tmp_path):
    run = stored_run(tmp_path / "run", f"schedule={schedule}", "trainer.max_steps=7")
    with pytest.raises(ConfigError, match=f"schedule={schedule} follows it, so going on with a run cannot change it"):
        planned(f"trainer.resume={run}", override)
    constant = stored_run(tmp_path / "constant", "trainer.max_steps=7")
    planned(f"trainer.resume={constant}", override)


@pytest.mark.parametrize("attempt", ["x", None, 1.5, True])
def test_a_stored_attempt_that_is_no_number_is_refused(attempt, tmp_path):
    run = stored_run(tmp_path / "run", attempt=attempt)
    with pytest.raises(RunFolderError, match="`attempt`"):
        planned(f"trainer.resume={run}")


def test_a_run_below_the_home_directory_is_found(tmp_path, monkeypatch):
    stored_run(tmp_path / "run", "seed=3")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert planned("trainer.resume='~/run'").arms[0].config.seed == 3


def test_resume_with_the_same_value_again_is_no_change(tmp_path):
    run = stored_run(tmp_path / "run", "seed=3")
    planned(f"trainer.resume={run}", "seed=3", "model=logistic", "optimizer.lr=0.1")


def test_changed_configuration_file_is_noticed(tmp_path):
    run = stored_run(tmp_path / "run", "seed=3")
    manifest = json.loads((run / "run.json").read_text())
    manifest["config"]["optimizer"]["lr"] = 0.7
    (run / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=r"optimizer\.lr was 0\.7 .* now give 0\.1: a configuration file has changed"):
        planned(f"trainer.resume={run}")


def test_evaluation_writes_below_the_run_and_keeps_its_configuration(tmp_path):
    run = stored_run(tmp_path / "run", "model=mlp", "seed=3")
    plan = planned("mode=evaluate", f"run={run}", "inference=detach")
    config = plan.arms[0].config
    assert (config.mode, config.run, config.model.name, config.inference.name) == (
        "evaluate",
        str(run),
        "mlp",
        "detach",
    )
    folder = next(each for each in plan.overrides if each.startswith("hydra.run.dir="))
    assert folder.startswith(f"hydra.run.dir='{run}/evaluations/")
    assert len(arms("mode=evaluate", f"run={run}", "inference=detach,no_grad,tracked")) == 3
    with pytest.raises(ConfigError, match="evaluating a run cannot change it"):
        planned("mode=evaluate", f"run={run}", "seed=4")


def test_sweeping_a_resumed_run_or_the_folder_is_refused(tmp_path):
    run = stored_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="leave out -m"):
        planned(f"trainer.resume={run}", "trainer.epochs=7,8", multirun=True)
    with pytest.raises(ConfigError, match="one run folder"):
        planned("mode=evaluate", f"run={run},{run}", multirun=True)
    with pytest.raises(ConfigError, match=r"hydra\.run\.dir cannot be given"):
        planned(f"trainer.resume={run}", "hydra.run.dir=x")


DAMAGE = {
    "no JSON": (lambda text: text[:40], "cannot be read"),
    "another version": (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "schema version 2"),
    "no version": (lambda text: "{}", "schema version None"),
    "a list": (lambda text: "[]", "schema version"),
    "no overrides": (lambda text: text.replace('"overrides"', '"nothing"'), "no `overrides`"),
    "no config": (lambda text: text.replace('"config"', '"nothing"'), "no `config`"),
    "overrides of numbers": (lambda text: text.replace('["seed=3"]', "[3]"), "`overrides[0]` is int, expected str"),
    "overrides nobody can read": (lambda text: text.replace("seed=3", "seed=(("), "stored in"),
    "deeply nested": (lambda text: "[" * 200_000, "nested too deeply"),
    "an evaluation": (lambda text: text.replace('"status"', '"mode": "evaluate", "status"'), "is an evaluation"),
    "code to run": (lambda text: text.replace("seed=3", "+model._target_=os.system"), "model._target_"),
    "a sweep": (lambda text: text.replace("seed=3", "seed=3,4"), "stored in"),
}


@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.parametrize("how", ["trainer.resume={}", "mode=evaluate run={}"])
def test_damaged_manifest_is_refused_in_one_line(case, how, tmp_path):
    run = stored_run(tmp_path / "run", "seed=3")
    damage, said = DAMAGE[case]
    (run / "run.json").write_text(damage((run / "run.json").read_text()))
    with pytest.raises(GradkitError) as caught:
        planned(*how.format(run).split())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_that_is_none_is_refused_with_the_nearest(tmp_path):
    run = stored_run(tmp_path / "20-00-00-abcd")
    with pytest.raises(RunFolderError, match=r"does not exist\. Did you mean .*20-00-00-abcd"):
        read_stored(str(tmp_path / "20-00-00-abce"), "run")
    with pytest.raises(RunFolderError, match="It holds runs in its folders 20-00-00-abcd"):
        read_stored(str(tmp_path), "run")
    with pytest.raises(RunFolderError, match="is a file"):
        read_stored(str(run / "run.json"), "run")
    for value in (3, None, "", "a\0b", ["x"]):
        with pytest.raises(ConfigError, match="expected a run folder"):
            read_stored(value, "run")


def test_same_run_is_judged_by_whole_keys(tmp_path):
    # `mode` may change; `model`, which begins alike, may not.
    stored = read_stored(str(stored_run(tmp_path / "run")), "trainer.resume")
    one, other = planned().arms[0].config, planned("model=mlp").arms[0].config
    check_same_run(stored, one, one)
    with pytest.raises(ConfigError, match="model"):
        check_same_run(stored, one, other)


# --- folders


def test_run_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="is a file"):
        planned(f"hydra.run.dir={tmp_path}/file/run")
    with pytest.raises(RunFolderError, match="is a file"):
        planned(f"hydra.sweep.dir={tmp_path}/file/run", "seed=0,1", multirun=True)
    planned(f"hydra.run.dir={tmp_path}/new/run")
    assert not (tmp_path / "new").exists()


def test_finished_run_is_not_overwritten(tmp_path):
    run = stored_run(tmp_path / "run")
    with pytest.raises(RunFolderError, match="holds a run already"):
        planned(f"hydra.run.dir={run}")

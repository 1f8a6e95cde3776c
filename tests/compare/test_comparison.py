"""Arms are what was configured alike; they are paired by seed, or by everything else with `by`."""

import pytest

from gradkit.compare.comparison import compare
from gradkit.errors import ConfigError
from gradkit.runs.folders import load_runs
from tests.compare.folders import configured, finding, manifest, write


def loaded(base, manifests):
    for number, content in enumerate(manifests):
        write(base / f"r{number}", content)
    return load_runs([base])[0]


def row(comparison, arm, metric="test.log_loss"):
    (found,) = [each for each in comparison.rows if each.arm == arm and each.metric == metric]
    return found


def test_runs_that_differ_in_their_seed_alone_are_one_arm(tmp_path):
    made = compare(loaded(tmp_path, [configured(seed) for seed in range(5)]))
    assert [(arm.label, len(arm.runs)) for arm in made.arms] == [("all runs", 5)]
    assert made.differing == ()


def test_the_difference_is_paired_by_seed(tmp_path):
    # Seeds differ far more than arms: unpaired, the difference of 0.1 would drown.
    manifests = [configured(seed, 10.0 * seed, optimizer__lr=0.1) for seed in range(5)]
    manifests += [configured(seed, 10.0 * seed + 0.1, optimizer__lr=1.0) for seed in reversed(range(5))]
    made = compare(loaded(tmp_path, manifests))
    against = row(made, "optimizer.lr=1").against
    assert against.difference.mean == pytest.approx(0.1)
    assert against.difference.half < 1e-9
    assert (against.higher, against.n) == (5, 5)


def test_the_reference_is_the_arm_without_fault_unless_another_is_named(tmp_path):
    runs = loaded(tmp_path, [configured(0, fault__name=name) for name in ("unzeroed", "none")])
    assert compare(runs).reference == "fault=none"
    assert compare(runs, reference=runs[0]).reference == "fault=unzeroed"


def test_by_one_key_pairs_runs_by_seed_and_all_other_keys(tmp_path):
    manifests = [
        configured(seed, log_loss=lr + 100 * batch + seed, optimizer__lr=lr, trainer__batch_size=batch)
        for lr in (0.25, 0.5)
        for batch in (16, 32)
        for seed in range(2)
    ]
    made = compare(loaded(tmp_path, manifests), by=["optimizer.lr"])
    assert [arm.label for arm in made.arms] == ["optimizer.lr=0.25", "optimizer.lr=0.5"]
    against = row(made, "optimizer.lr=0.5").against
    assert (against.n, against.difference.mean, against.difference.half) == (4, pytest.approx(0.25), pytest.approx(0))


def test_by_takes_a_group_for_its_name_and_refuses_what_no_run_has(tmp_path):
    runs = loaded(tmp_path, [configured(0, fault__name=name) for name in ("unzeroed", "none")])
    assert compare(runs, by=["fault"]).by == ("fault.name",)
    with pytest.raises(ConfigError, match=r"'optimizer\.lrr'.*Did you mean 'optimizer.lr'"):
        compare(runs, by=["optimizer.lrr"])


def test_keys_that_follow_from_a_choice_are_left_out_of_the_label(tmp_path):
    adam = configured(0, optimizer__name="adam", optimizer__beta1=0.9, optimizer__beta2=0.999)
    made = compare(loaded(tmp_path, [configured(0), adam]))
    assert [arm.label for arm in made.arms] == ["optimizer=sgd", "optimizer=adam"]
    assert "optimizer.beta1" in made.differing


def test_a_data_seed_that_follows_the_run_makes_no_arm_but_one_of_its_own_does(tmp_path):
    follows = [configured(seed, data__seed=seed) for seed in range(3)]
    assert len(compare(loaded(tmp_path / "a", follows)).arms) == 1
    own = [configured(0, data__seed=seed) for seed in (7, 8)]
    assert len(compare(loaded(tmp_path / "b", own)).arms) == 2


def test_one_and_one_point_nought_are_one_setting_and_true_is_another(tmp_path):
    assert (
        len(compare(loaded(tmp_path / "a", [configured(0, optimizer__lr=1), configured(1, optimizer__lr=1.0)])).arms)
        == 1
    )
    assert (
        len(compare(loaded(tmp_path / "b", [configured(0, optimizer__lr=1), configured(1, optimizer__lr=True)])).arms)
        == 2
    )


def test_of_two_runs_with_one_configuration_and_seed_the_later_counts(tmp_path):
    first = configured(0, 1.0) | {"started": "2026-11-23T07:00:00+0000"}
    later = configured(0, 2.0) | {"started": "2026-11-23T08:00:00+0000"}
    made = compare(loaded(tmp_path, [later, first]))
    assert row(made, "all runs").summary.mean == 2.0
    assert [run.label for run in made.repeated] == ["r1"]


def test_runs_without_configuration_are_all_kept(tmp_path):
    bare = {"schema_version": 1, "status": "completed", "metrics": {"loss": 1.0}}
    made = compare(loaded(tmp_path, [bare, bare, bare]))
    assert len(made.runs) == 3
    assert made.repeated == ()


def test_a_run_that_did_not_complete_is_named_and_gives_no_number(tmp_path):
    made = compare(loaded(tmp_path, [configured(0, 1.0), configured(1, 99.0) | {"status": "interrupted"}]))
    assert row(made, "all runs").summary.mean == 1.0
    assert [(run.label, run.status) for run in made.unfinished] == [("r1", "interrupted")]
    with pytest.raises(ConfigError, match="'interrupted'"):
        compare(load_runs([tmp_path])[0], reference=made.unfinished[0])


def test_a_diverged_run_is_counted_and_not_averaged(tmp_path):
    made = compare(loaded(tmp_path, [configured(0, 1.0), configured(1, float("nan"))]))
    assert (row(made, "all runs").summary.mean, row(made, "all runs").non_finite) == (1.0, 1)


def test_findings_stand_side_by_side(tmp_path):
    faulty = [configured(seed, fault__name="unzeroed") | {"findings": [finding(count=17)]} for seed in range(2)]
    made = compare(loaded(tmp_path, [configured(0, fault__name="none"), *faulty]))
    (found,) = made.findings
    assert (found.rule, found.severity) == ("GK101", "error")
    assert (dict(found.runs), dict(found.steps)) == ({"fault=unzeroed": 2}, {"fault=unzeroed": 34})


def test_the_best_run_is_the_lowest_loss_and_the_highest_accuracy(tmp_path):
    contents = [configured(seed, loss) for seed, loss in enumerate([0.3, 0.1, float("nan"), 0.2])]
    contents[3]["metrics"]["test"]["accuracy"] = 1.0
    made = compare(loaded(tmp_path, contents))
    assert [run.seed for run, _ in made.best("test.log_loss", 2)] == [1, 3]
    assert made.best("test.accuracy", 1)[0][0].seed == 3
    assert made.best("steps") == []


def test_a_metric_that_no_run_has_is_refused_with_the_nearest(tmp_path):
    runs = loaded(tmp_path, [manifest()])
    assert compare(runs, metrics=["test.*"]).shown == ("test.accuracy", "test.log_loss")
    with pytest.raises(ConfigError, match=r"Did you mean 'test.log_loss'"):
        compare(runs, metrics=["test.logloss"])

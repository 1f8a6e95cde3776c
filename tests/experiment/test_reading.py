"""An experiment file is understood or refused in one line that names the key and the nearest right thing."""

import pytest

from gradkit.errors import ConfigError
from gradkit.experiment.reading import read_experiment
from tests.experiment.writing import SMALL, write


def test_axes_are_multiplied_out_and_each_arm_carries_its_settings(tmp_path):
    made = read_experiment(write(tmp_path / "e"))
    assert [arm.name for arm in made.arms] == ["textbook/1", "textbook/100", "fused/1", "fused/100"]
    assert made.arms[1].overrides == ("dimensions=4", "batch=32", "form=textbook", "scale=100")
    assert made.arms[1].axes == {"arm": "textbook", "scale": "100"}
    assert made.seeds == (0, 1, 2)


def test_an_arm_deviates_from_common_settings_and_the_user_from_both(tmp_path):
    folder = write(
        tmp_path / "e", arms={"a": ["form=fused", "batch=8"], "b": ["form=fused"]}, vary=None, claims=[], figures=[]
    )
    made = read_experiment(folder)
    assert made.arms[0].overrides == ("dimensions=4", "form=fused", "batch=8")
    made = read_experiment(folder, overrides=["batch=2"])
    assert [arm.overrides[-1] for arm in made.arms] == ["batch=2", "batch=2"]
    assert all(sum(text.startswith("batch=") for text in arm.overrides) == 1 for arm in made.arms)


def test_an_arm_of_another_program_takes_its_own_axes_and_settings_only(tmp_path):
    arms = {"train": {"program": "train", "set": ["model=mlp"], "vary": []}, "fused": ["form=fused"]}
    made = read_experiment(
        write(tmp_path / "e", arms=arms | {"train": {"program": "train", "set": ["model=mlp"]}}, claims=[])
    )
    assert made.arms[0].overrides[0] == "model=mlp"
    arms["train"]["vary"] = ["scale"]
    assert [a.name for a in read_experiment(write(tmp_path / "f", arms=arms, claims=[])).arms][:2] == [
        "train/1",
        "train/100",
    ]


def test_quick_settings_select_arms_and_replace_seeds_and_claims(tmp_path):
    claim = {"say": "Quick.", "arm": "fused/1", "metric": "error", "below": 1}
    quick = {"arms": ["fused/*"], "seeds": 1, "claims": [claim], "common": ["batch=4"], "figures": []}
    folder = write(tmp_path / "e", quick=quick)
    made = read_experiment(folder, quick=True)
    assert [arm.name for arm in made.arms] == ["fused/1", "fused/100"]
    assert (made.seeds, made.claims[0].say, made.arms[0].overrides[-1]) == ((0,), "Quick.", "batch=4")
    assert len(read_experiment(folder).arms) == 4
    with pytest.raises(ConfigError, match="no quick settings"):
        read_experiment(write(tmp_path / "f"), quick=True)


CLAIM = {"say": "x", "arm": "fused/*", "metric": "error", "below": 1}
WRONG = {
    "no question": ({"question": None}, "question should be text"),
    "unknown key": ({"seed": 3}, "unknown key 'seed'. Did you mean 'seeds'"),
    "no arms": ({"arms": {}}, "at least one"),
    "arms as a list": ({"arms": ["a"]}, "arms should be a mapping"),
    "arm with a number": ({"arms": {"a": [1]}}, "list of texts"),
    "arm name with a slash": ({"arms": {"a/b": []}}, "letters, digits"),
    "arm name that leaves the folder": ({"arms": {"..": []}}, "letters, digits"),
    "unknown axis": ({"arms": {"a": {"set": [], "vary": ["scal"]}}}, "Did you mean 'scale'"),
    "seeds repeated": ({"seeds": [1, 1]}, "seeds should be"),
    "seeds negative": ({"seeds": [-1]}, "seeds should be"),
    "seeds true": ({"seeds": True}, "seeds should be"),
    "seeds none": ({"seeds": 0}, "seeds should be"),
    "claim without words": ({"claims": [CLAIM | {"say": ""}]}, "say should be text"),
    "claim of two kinds": ({"claims": [CLAIM | {"above": 0}]}, "got above, below"),
    "claim of no kind": ({"claims": [{"say": "x", "arm": "fused/1"}]}, "got none"),
    "claim about no arm": ({"claims": [CLAIM | {"arm": "fusd/1"}]}, "Did you mean 'fused/1'"),
    "claim about no metric": ({"claims": [CLAIM | {"metric": "eror"}]}, "Did you mean 'error'"),
    "claim against no arm": ({"claims": [CLAIM | {"below": "textbok/*"}]}, "Did you mean 'textbook/"),
    "claim in more seeds": ({"claims": [CLAIM | {"seeds": 4}]}, "there are only 3"),
    "ratio without bounds": (
        {"claims": [{"say": "x", "arm": "fused/1", "metric": "error", "ratio_to": "textbook/1"}]},
        "between should be two numbers",
    ),
    "figure of nothing": ({"figures": [{"name": "a", "title": "b"}]}, "either curve or metric"),
    "figure of an unknown metric": ({"figures": [{"name": "a", "title": "b", "metric": "err"}]}, "unknown metric"),
    "figure that leaves the folder": (
        {"figures": [{"name": "../a", "title": "b", "metric": "error"}]},
        "letters, digits",
    ),
    "figure over no axis": ({"figures": [{"name": "a", "title": "b", "metric": "error", "x": "lr"}]}, "axis of vary"),
    "metric in words": ({"metrics": {"error": "the mean of loss"}}, "expected a name such as"),
    "metric with a wrong word": ({"metrics": {"error": "maxx of loss"}}, "Did you mean 'max'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_in_the_file_is_named(name, tmp_path):
    changes, said = WRONG[name]
    if "metrics" in changes:
        changes = changes | {"claims": [], "figures": []}
    with pytest.raises(ConfigError) as caught:
        read_experiment(write(tmp_path / "e", **changes))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "- a", "a: [", "\t", "a: 1\na: 2", "a: &x [*x]", "\xff\xfe", "!!python/object:os.system {}"]
)
def test_a_file_that_is_no_experiment_is_refused(text, tmp_path):
    (tmp_path / "experiment.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError):
        read_experiment(tmp_path)


def test_the_small_experiment_is_sound(tmp_path):
    assert len(read_experiment(write(tmp_path / "e")).claims) == len(SMALL["claims"])

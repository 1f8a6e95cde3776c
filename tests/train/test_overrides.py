"""Arguments with characters that shells and Hydra give a meaning, and what is suggested instead of them."""

import json
import re
import shlex

import pytest

from gradkit.config.arguments import as_argument
from gradkit.errors import ConfigError
from gradkit.train.command.compose import session
from gradkit.train.command.plan import make_plan
from gradkit.train.schema.data import delimiter_character
from tests.train.command import train

TABLE = ("data=csv", f"data.path='{__file__}'")
ODD_NAMES = [
    "w(kg)",
    "a=b,c",
    "it's",
    'say "so"',
    "größe",
    "a b",
    "null",
    "1e3",
    "${x}",
    "[x]",
    "{x}",
    "$HOME",
    "end\\",
]


def composed(*overrides):
    with session() as hydra:
        return make_plan(hydra, overrides, multirun=False, trust=["pkg"]).arms[0].config


def refused(*overrides):
    with pytest.raises(ConfigError) as caught:
        composed(*overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_suggested_arguments_mean_what_they_should_when_pasted_into_a_shell(name):
    pasted = shlex.split(as_argument("data.features", ["a", name]))
    assert len(pasted) == 1
    assert composed(*TABLE, "data.target=y", *pasted).data.features == ["a", name]
    (pasted,) = shlex.split(as_argument("data.target", name))
    assert composed(*TABLE, pasted).data.target == name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("data.features=[w(kg)]", ["w(kg)"]),
        ("data.features='[w(kg)]'", ["w(kg)"]),
        ("data.features=w(kg)", ["w(kg)"]),
        ("data.features=[größe, it's, 'a,b']", ["größe", "it's", "a,b"]),
        ("data.features=[a, f(x,y)]", ["a", "f(x,y)"]),
        ("data.features=a", ["a"]),
    ],
)
def test_the_advice_on_a_list_works_when_pasted(given, expected):
    message = refused(*TABLE, "data.target=y", given)
    advice = re.search(r"(?:of its own: |Write it as )(.*)\.$", message)
    assert advice is not None
    (suggested,) = shlex.split(advice[1])
    assert composed(*TABLE, "data.target=y", suggested).data.features == expected


def test_the_advice_on_a_text_works_when_pasted():
    message = refused(*TABLE, "data.target=w(kg)")
    assert message.endswith("""A value with special characters needs quotes of its own: "data.target='w(kg)'".""")
    assert composed(*TABLE, "data.target='w(kg)'").data.target == "w(kg)"
    assert "+model.options.unit='w(kg)'" in refused("model=custom", "model.target=pkg.Net", "+model.options.unit=w(kg)")


@pytest.mark.parametrize("given", ["trainer.epochs=5(", "model.hidden=[8(]", "model=(", "model.options={a: w(kg)}"])
def test_quotes_are_not_advised_where_a_text_would_be_refused(given):
    assert "quotes" not in refused("model=mlp", given) if given != "model=(" else refused(given)


def test_a_long_value_is_not_repeated_but_its_form_is_shown():
    assert refused("name=(" + "x" * 80).endswith("""needs quotes of its own, as in "name='...'".""")


@pytest.mark.parametrize("given", ["model.options={width: 7}", "+model.options.width=7", "++model.options={width: 7}"])
def test_options_of_a_model_are_taken_in_either_form(given, tmp_path):
    (tmp_path / "pkg.py").write_text("class Net: pass\n")
    arguments = ["model=custom", "model.target=pkg.Net", "--trust", "pkg", given, "hydra.run.dir=run"]
    ran = train(*arguments, cwd=tmp_path, stand_in=tmp_path / "stand_in")
    assert (ran.status, ran.err) == (0, "")
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    assert stored["config"]["model"]["options"] == {"width": 7}
    assert composed(*stored["overrides"]).model.options == {"width": 7}


def test_options_that_are_no_mapping_are_refused():
    custom = ("model=custom", "model.target=pkg.Net")
    assert refused(*custom, "model.options=3") == "model.options: expected a mapping such as {width: 64}, got 3."
    assert "write it without +" in refused(*custom, "+model.options={width: 7}")
    assert "+model.options.width=VALUE" in refused(*custom, "model.options.width=7")


def test_mappings_of_options_can_be_swept():
    overrides = ["model=custom", "model.target=pkg.Net", "model.options={width: 7},{width: 8}"]
    with session() as hydra:
        plan = make_plan(hydra, overrides, multirun=True, trust=["pkg"])
    assert [arm.config.model.options for arm in plan.arms] == [{"width": 7}, {"width": 8}]


@pytest.mark.parametrize(
    ("typed", "character"),
    [
        ("data.delimiter=tab", "\t"),
        (r"'data.delimiter=\t'", "\t"),
        (r"data.delimiter=\\t", "\t"),
        (r"""data.delimiter="'\t'" """, "\t"),
        ("\"data.delimiter='\t'\"", "\t"),
        (as_argument("data.delimiter", ";"), ";"),
        (as_argument("data.delimiter", ","), ","),
        ("data.delimiter='|'", "|"),
    ],
)
def test_delimiters_pass_from_a_shell_to_the_reader(typed, character):
    (argument,) = shlex.split(typed)
    assert delimiter_character(composed(*TABLE, "data.target=y", argument).data.delimiter) == character


def test_a_bare_tab_is_answered_with_the_word():
    assert "or data.delimiter=tab; got ''" in refused(*TABLE, "data.target=y", "data.delimiter=\t")


def test_a_key_without_a_value_is_told_apart_from_a_word():
    assert "Did you mean 'trainer.epochs=VALUE'?" in refused("trainer.epochs")
    assert "Did you mean 'model=mlp'?" in refused("mlp")


@pytest.mark.parametrize("name", ["true", "False", "1.10", "007", "1e3", "1_000", ".5", "nan", "2020"])
def test_a_text_that_looks_like_a_number_or_a_truth_value_is_taken_as_written(name):
    given = composed(
        *TABLE, f"data.target= {name}", f"data.positive={name}", f"data.features=[a, {name}x, {name}0]"
    ).data
    assert (given.target, given.positive, given.features) == (name, name, ["a", f"{name}x", f"{name}0"])
    assert composed(*TABLE, "data.target=y", f"data.features=[{name},b]").data.features == [name, "b"]

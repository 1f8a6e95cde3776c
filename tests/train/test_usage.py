import pytest

from gradkit.config.fields import fields_of
from gradkit.config.folder import configs_folder
from gradkit.errors import ConfigError
from gradkit.train.command.options import OPTIONS, REFUSED, read_options
from gradkit.train.command.usage import default_choices, help_text, presets
from gradkit.train.schema import GROUPS, TrainConfig


def test_help_names_every_choice_every_default_key_and_every_option():
    text = help_text(configs_folder())
    for group, choice in default_choices(configs_folder()).items():
        assert f"{choice}*" in text
        assert all(f" {each}" in text for each in GROUPS[group])
        keys = [name for name in fields_of(GROUPS[group][choice]) if name != "name"]
        assert all(f"  {group}.{name} " in text for name in keys)
    for name in fields_of(TrainConfig):
        assert f"  {name} " in text
    assert all(names in text for names in OPTIONS)
    assert all(name in text and sentence in text for name, sentence in presets(configs_folder()).items())
    assert max(map(len, text.splitlines())) <= 120


def test_help_states_ranges_words_and_meaning():
    lines = " ".join(help_text(configs_folder()).split())
    assert "optimizer.lr 0.1 learning rate (a number, > 0)" in lines
    assert "trainer.shuffle full order of the samples: every sample, whole batches, or as stored (full | " in lines
    assert "trainer.max_steps null stop after this many optimizer steps" in lines


def test_help_of_a_choice_shows_its_own_keys_and_values_only():
    text = help_text(configs_folder(), ["optimizer=momentum", "data=csv"])
    assert "optimizer.momentum          0.9" in text.replace("  optimizer", "optimizer")
    assert "data.path" in text and "(required)" in text
    assert "trainer." not in text


@pytest.mark.parametrize(
    ("word", "near"), [("model=mlpp", "mlp"), ("modle=mlp", "model"), ("model", "expected group=choice")]
)
def test_help_of_nothing_known_is_refused(word, near):
    with pytest.raises(ConfigError, match=near):
        help_text(configs_folder(), [word])


def test_presets_have_a_sentence():
    assert all(sentence.endswith(".") for sentence in presets(configs_folder()).values())


def test_options_may_stand_anywhere_between_overrides():
    options = read_options(["a=1", "-m", "b=2", "--trust", "p", "--trust=q.r", "c=3", "--dry-run"])
    assert options.overrides == ("a=1", "b=2", "c=3")
    assert (options.trust, options.multirun, options.dry_run) == (("p", "q.r"), True, True)


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["-c", "all", "--resolve"], ["--info"], ["--info", "plugins"]])
def test_hydras_own_views_are_taken(arguments):
    assert read_options(arguments).show in ("cfg", "info")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--foo"], "Unknown option '--foo'"),
        (["--dryrun"], "Did you mean '--dry-run'"),
        (["--model=mlp"], "without dashes: model=mlp"),
        (["-x"], "Unknown option '-x'"),
        (["--trust"], "--trust"),
        (["--trust="], "expected a module"),
        (["--trust", "a b"], "expected a module"),
        (["--cfg"], "--cfg"),
        (["--cfg", "jobs"], "jobs"),
        (["--cfg", "job", "--info"], "one of --cfg, --info"),
        (["--resolve"], "go with --cfg"),
        (["--package", "model"], "go with --cfg"),
        (["--run", "-m"], "exclude each other"),
        (["--info", "model=mlp"], "model=mlp"),
        *(([name], "is not taken") for names in REFUSED for name in names.split(", ")),
    ],
)
def test_mistaken_options_are_refused(arguments, said):
    with pytest.raises(ConfigError) as caught:
        read_options(arguments)
    assert said in str(caught.value)

"""The errors a user can cause: one family, a slug each, and the nearest right word."""

import inspect
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradkit
from gradkit import errors
from gradkit.errors import GradkitError, did_you_mean
from gradkit.rules import all_rules

FAMILY = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, GradkitError)]


def test_every_error_belongs_to_one_family_and_has_a_slug_of_its_own():
    assert len(FAMILY) >= 6
    slugs = [error.slug for error in FAMILY]
    assert len(set(slugs)) == len(slugs)
    assert all(slug == slug.lower() and " " not in slug for slug in slugs)


@pytest.mark.parametrize("error", FAMILY)
def test_a_message_passes_through_unchanged_and_the_class_is_explained(error):
    with pytest.raises(GradkitError) as caught:
        raise error("key `lr`: expected a number, got 'ten'")
    assert str(caught.value) == "key `lr`: expected a number, got 'ten'"
    assert error.__doc__


def test_no_error_hides_as_one_of_python():
    """A loop's own `except ValueError` must not swallow what the user asked gradkit to stop at."""
    assert all(error.__mro__[1:] in ((Exception, BaseException, object), GradkitError.__mro__) for error in FAMILY)


def test_the_errors_to_catch_are_public():
    assert gradkit.GradkitError is GradkitError
    assert gradkit.HygieneError is errors.HygieneError


@pytest.mark.parametrize(
    ("got", "choices", "said"),
    [
        ("adma", ["adam", "sgd"], " Did you mean 'adam'?"),
        ("GK1O1", list(all_rules()), " Did you mean 'GK101'?"),
        ("zzz", ["adam", "sgd"], ""),
        ("", ["adam"], ""),
        ("adam", [], ""),
        ("adam", iter(["adamw", "sgd"]), " Did you mean 'adamw'?"),
        ("it's", ["its"], " Did you mean 'its'?"),
    ],
)
def test_names_the_nearest_choice_or_nothing(got, choices, said):
    assert did_you_mean(got, choices) == said


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=6))
def test_says_nothing_or_one_of_the_choices_whatever_was_typed(got, choices):
    assert did_you_mean(got, choices) in {"", *(f" Did you mean {choice!r}?" for choice in choices)}


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6), st.data())
def test_a_right_word_is_its_own_nearest(choices, data):
    word = data.draw(st.sampled_from(choices))
    assert did_you_mean(word, choices) == f" Did you mean {word!r}?"


def test_words_are_compared_only_after_a_mistake():
    program = "import sys, gradkit.errors; print('difflib' in sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

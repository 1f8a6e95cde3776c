"""The page of an experiment draws its figures offline, and hostile words in its file are words."""

import pytest

from gradkit.experiment.page import experiment_page
from gradkit.experiment.reading import read_experiment
from gradkit.experiment.results import collect
from gradkit.experiment.runner import plan, run_missing
from tests.experiment.writing import SMALL, write
from tests.report.browser import load, needs_browser
from tests.report.test_html import CLOSING, HOSTILE, check_page, saved


@pytest.fixture
def page(tmp_path):
    """An experiment whose every free text is hostile, run for real; one of its claims fails."""
    claims = [*SMALL["claims"], {"say": CLOSING, "arm": "fused/1", "metric": "error", "above": 1}]
    text = " ".join(word for word in HOSTILE if word.isprintable() or "\u202e" in word)[:3000]
    figures = [
        {"name": "share", "title": CLOSING, "y": '"\\x00</script>', "alt": text, "metric": "non_finite", "x": "scale"},
        {"name": "error", "title": "Error", "metric": "error", "log": True},
    ]
    folder = write(tmp_path / "e", question=text, claims=claims, figures=figures)
    experiment = read_experiment(folder)
    planned = plan(experiment, tmp_path / "runs")
    failures = run_missing(planned, lambda number, count, run: None)
    results = collect(experiment, planned, failures, 1.0, len(planned))
    assert [judgement.holds for judgement in results.judgements] == [True, True, False]
    return experiment_page(results)


def test_the_page_says_which_claims_hold_and_stays_small(page):
    check_page(page)
    assert page.count('badge holds">holds') == 2
    assert page.count('badge fails">fails') == 1
    assert len(page) < 3_000_000


@needs_browser
def test_it_draws_its_figures_offline(page, tmp_path):
    shown = load(saved(tmp_path, page))
    assert shown.title == "e"
    assert shown.charts == (2, 2)
    assert (shown.complaints, shown.requests) == ([], [])

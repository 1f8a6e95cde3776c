"""The measuring programs measure what they say: against numbers worked out another way."""

import json

import pytest

from gradkit.errors import ConfigError
from gradkit.experiment.programs import PROGRAMS, accumulation, inference, program, saturation


class Ignored:
    def append(self, events):
        self.events = events


def test_a_tracked_forward_keeps_its_activations_and_the_others_nothing():
    settings = {"batch": 32, "depth": 3, "width": 16, "repeats": 3}
    tracked = inference.measured(inference.InferenceSettings(mode="tracked", **settings))
    # One activation of 32 x 16 floats behind each of three tanh; the linear layers save the same tensors.
    assert tracked["saved_bytes"] == 3 * 32 * 16 * 4
    assert tracked["graph_nodes"] > 3 * 4
    for mode in inference.MODES[1:]:
        found = inference.measured(inference.InferenceSettings(mode=mode, **settings))
        assert (found["saved_bytes"], found["graph_nodes"], found["logit_difference"]) == (0, 0, 0)
        assert found["held_bytes"] == 32 * 4
        assert found["peak_bytes"] < tracked["peak_bytes"]


def test_weighting_by_tokens_is_the_whole_batch_and_a_mean_of_means_is_not():
    def error(reduction, **settings):
        made = accumulation.AccumulationSettings(
            reduction=reduction, epochs=1, sequences=64, dtype="float64", **settings
        )
        return accumulation.trained(made, Ignored())

    for split in ({"micro_batch": 16}, {"micro_batch": 12}):
        assert error("tokens", **split)["worst_gradient_error"] < 1e-12
        assert error("mean", **split)["gradient_error"] > 0.01
    assert error("mean", micro_batch=16, longest=1)["worst_gradient_error"] < 1e-12
    assert error("samples", micro_batch=12, longest=1)["worst_gradient_error"] < 1e-12
    assert error("mean", micro_batch=12, longest=1)["gradient_error"] > 0.01
    assert error("sum", micro_batch=16, longest=1)["length"] == pytest.approx(4)


@pytest.mark.parametrize("form", saturation.FORMS)
def test_every_form_is_right_where_nothing_saturates(form):
    found = saturation.measured(saturation.SaturationSettings(form=form, dtype="float64", scale=0.5))
    assert found["relative_error"] < 1e-12
    assert (found["non_finite"], found["lost"]) == (0, 0)


@pytest.mark.parametrize(
    ("form", "breaks"),
    [("textbook", True), ("autograd_on_probabilities", True), ("fused", False), ("autograd_with_logits", False)],
)
def test_only_forms_on_probabilities_break_at_large_logits(form, breaks):
    found = saturation.measured(saturation.SaturationSettings(form=form, dtype="float32", scale=50.0))
    assert (found["non_finite"] > 0) is breaks
    assert (found["relative_error"] == float("inf")) is breaks


def test_a_run_folder_is_one_that_comparisons_read(tmp_path):
    from gradkit.compare import compare, load_runs

    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        saturation.run(["scale=2", "dtype=float16"], seed, folder)
    (arm,) = compare(load_runs([tmp_path])[0]).arms
    assert len(arm.runs) == 2
    assert json.loads((tmp_path / "0" / "run.json").read_text())["config"]["scale"] == 2.0


def test_a_measurement_that_fails_says_so_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(saturation, "measured", lambda settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        saturation.run([], 0, tmp_path)
    manifest = json.loads((tmp_path / "run.json").read_text())
    assert (manifest["status"], manifest["error"]) == ("failed", "ZeroDivisionError('division by zero')")


def test_every_program_is_there_and_another_is_refused_with_the_nearest():
    for name in PROGRAMS:
        assert program(name).resolved([])
    with pytest.raises(ConfigError, match="Did you mean 'inference'"):
        program("inferense")

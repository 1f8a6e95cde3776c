"""Tests of the loop with gradkit's pytest plugin; there is no conftest."""

import faulty
import loop
import pytest
import torch


@pytest.fixture
def data():
    return loop.load()


def test_the_loop_learns_with_clean_gradients(gradkit_watch, data):
    model = loop.train(loop.new_model(), *data)
    assert loop.accuracy(model, *data) > 0.95
    assert gradkit_watch.findings == ()


@pytest.mark.gradkit(accumulate=loop.WINDOW)
def test_all_micro_batches_of_a_window_count(data):
    loop.train(loop.new_model(), *data, epochs=1)


@pytest.mark.parametrize("edited", [faulty.clears_once_per_epoch, faulty.clears_every_micro_batch])
def test_an_ordinary_test_does_not_notice_the_faults(edited, data):
    assert loop.accuracy(edited(loop.new_model(), *data), *data) > 0.95


@pytest.mark.xfail(strict=True, reason="planted: remove the mark to see how it is told")
@pytest.mark.gradkit(accumulate=loop.WINDOW)
@pytest.mark.parametrize("edited", [faulty.clears_once_per_epoch, faulty.clears_every_micro_batch])
def test_a_marked_test_does(edited, data):
    edited(loop.new_model(), *data)


def test_the_training_stays_what_it_was(trajectory_regression, data):
    model = loop.new_model()
    with trajectory_regression.record(model) as recording:
        loop.train(model, *data, epochs=1)
    trajectory_regression.check(recording)


def test_the_loss_has_the_gradient_worked_out_by_hand(check_gradients):
    labels = torch.tensor([0.0, 1.0, 1.0])
    logits = torch.tensor([0.3, -2.0, 7.0])
    check_gradients(lambda z: loop.loss_of(z, labels), [logits], manual=lambda z: loop.gradient_by_hand(z, labels))


def test_a_window_in_parts_has_the_gradient_of_the_whole(check_accumulation, data):
    batch = tuple(part[:64] for part in data)
    check_accumulation(
        loop.new_model(), lambda model, b: loop.loss_of(model(b[0]).squeeze(-1), b[1]), batch, micro_batches=4
    )


def test_every_parameter_has_the_right_gradient(check_module, data):
    batch = tuple(part[:32] for part in data)
    check_module(loop.new_model(), lambda model, b: loop.loss_of(model(b[0]).squeeze(-1), b[1]), batch)


def test_inference_computes_the_same_without_a_graph(check_inference, data):
    check_inference(loop.new_model(), data[0][:8])

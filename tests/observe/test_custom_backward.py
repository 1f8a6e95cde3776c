"""Which answers of custom functions are heard: None for an argument that needed a gradient, from the user's code."""

import torch
from torch.utils.checkpoint import checkpoint

import gradkit
from gradkit.observe.tensors import graph
from gradkit.observe.witnesses.backward_answers import Answers


class Plus(torch.autograd.Function):
    """A sum of two tensors and a number; which of the tensors gets a gradient is a matter of the class."""

    @staticmethod
    def forward(ctx, number, first, second):
        return number + first + second

    @staticmethod
    def backward(ctx, gradient):
        return None, gradient, None


class Careful(torch.autograd.Function):
    """A product that answers nothing with nothing."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, factor)
        return x * factor

    @staticmethod
    def backward(ctx, gradient):
        if gradient is None:
            return None, None
        x, factor = ctx.saved_tensors
        return gradient * factor, gradient * x


def leaf():
    return torch.ones(3, requires_grad=True)


def heard(loss, *parameters):
    with gradkit.watch(report="never") as monitor:
        answers = Answers(monitor, parameters)
        answers.listen(graph.walk([loss.grad_fn]))
        loss.backward()
        answers.stop()
    return [[(answer.function, answer.argument) for answer in answers.of(parameter)] for parameter in parameters]


def test_numbers_arguments_as_forward_does():
    first, second = leaf(), leaf()
    assert heard(Plus.apply(1.0, first, second * 2).sum(), first, second) == [[], [("Plus", 2)]]


def test_an_argument_that_needs_no_gradient_does_not_shift_the_others():
    second = leaf()
    assert heard(Plus.apply(1.0, torch.ones(3), second).sum(), second) == [[("Plus", 2)]]


def test_only_parameters_that_are_asked_about_are_kept():
    second, other = leaf(), leaf()
    loss = Plus.apply(1.0, leaf(), second * other).sum()
    with gradkit.watch(report="never") as monitor:
        answers = Answers(monitor, [second])
        answers.listen(graph.walk([loss.grad_fn]))
        loss.backward()
    assert (len(answers.of(second)), answers.of(other)) == (1, ())


def test_an_answer_to_nothing_is_no_answer():
    below, factor = leaf(), leaf()
    loss = Plus.apply(1.0, leaf(), Careful.apply(below, factor)).sum()
    assert heard(loss, below, factor) == [[("Plus", 2)], [("Plus", 2)]]


def test_a_library_s_function_is_not_heard():
    used, idle = leaf(), leaf()
    loss = checkpoint(lambda x, y: x * 2, used, idle, use_reentrant=True).sum()
    assert heard(loss, idle) == [[]]
    assert idle.grad is None


def test_nothing_is_heard_after_the_end():
    second = leaf()
    loss = Plus.apply(1.0, leaf(), second).sum()
    with gradkit.watch(report="never") as monitor:
        answers = Answers(monitor, [second])
        answers.listen(graph.walk([loss.grad_fn]))
        answers.stop()
        loss.backward()
    assert answers.of(second) == ()


def test_a_mistake_of_ours_does_not_stop_the_backward(monkeypatch):
    first, second = leaf(), leaf()
    monkeypatch.setattr(Answers, "_hear", lambda *_: 1 / 0)
    loss = Plus.apply(1.0, first, second).sum()
    with gradkit.watch(report="never") as monitor:
        answers = Answers(monitor, [second])
        answers.listen(graph.walk([loss.grad_fn]))
        loss.backward()
    assert torch.equal(first.grad, torch.ones(3))
    assert [finding.rule for finding in monitor.findings] == ["GK900"]

"""A hand-written backward pass that forgets the factor 2."""

import torch

import gradkit.check


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x


class CorrectSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x


def main():
    x = torch.tensor([0.5, -1.0, 3.0], requires_grad=True)
    result = gradkit.check.function(Square, (x,))
    result.assert_ok()  # expect: GK601
    return result


def repaired():
    x = torch.tensor([0.5, -1.0, 3.0], requires_grad=True)
    result = gradkit.check.function(CorrectSquare, (x,))
    result.assert_ok()
    return result

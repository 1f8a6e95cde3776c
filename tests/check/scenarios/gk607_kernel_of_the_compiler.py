"""A backend that compiles a graph wrongly: it takes one activation for another."""

import torch
from torch import nn

import gradkit.check


def wrong_backend(graph, example_inputs):
    for node in graph.graph.nodes:
        if node.target in (torch.tanh, "tanh"):
            node.target = torch.sigmoid if node.op == "call_function" else "sigmoid"
    graph.recompile()
    return graph.forward


def check(backend):
    torch.manual_seed(0)
    return gradkit.check.compiled(
        Net(),
        lambda model, batch: model(batch).square().mean(),
        torch.randn(6, 4),
        compiler=lambda model: torch.compile(model, backend=backend),
    )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


def main():
    result = check(wrong_backend)
    result.assert_ok()  # expect: GK607
    return result


def repaired():
    result = check("eager")
    result.assert_ok()
    return result

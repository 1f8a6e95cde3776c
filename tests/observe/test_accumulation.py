"""When a finding about accumulated losses is there: at once where windows were declared, else once a pass has ended."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradkit

WINDOW = 4


def steps_with_a_finding(**options):
    """Steps of three passes of unscaled losses after which the finding was there."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(torch.randn(64, 4)), batch_size=2)
    found, step = [], 0
    with gradkit.watch(report="never", select=["GK105"], **options) as monitor:
        for _ in range(3):
            for index, (x,) in enumerate(loader):
                model(x).pow(2).mean().backward()
                if (index + 1) % WINDOW == 0:
                    optimizer.step()
                    optimizer.zero_grad()
                    step += 1
                    if monitor.findings:
                        found.append(step)
    return found


def test_declared_windows_are_judged_as_soon_as_enough_were_seen():
    found = steps_with_a_finding(accumulate=WINDOW)
    assert found == list(range(found[0], 25))
    assert found[0] < 8  # within the first pass


def test_windows_that_were_not_declared_are_judged_when_a_pass_has_shown_that_they_are_parts_of_one():
    found = steps_with_a_finding()
    assert found == list(range(found[0], 25))
    assert found[0] == 9  # the first step of the second pass

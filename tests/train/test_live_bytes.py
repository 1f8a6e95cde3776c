"""Bytes of tensors alive during a block, against numbers worked out by hand."""

import torch

from gradkit.train.evaluation.live_bytes import LiveBytes


def test_live_bytes_are_those_of_the_tensors_alive():
    kept = torch.zeros(10)
    with LiveBytes() as counted:
        a = torch.ones(1000)
        b = a + 1
        c = b.view(10, 100)
        assert counted.now == 8000
        del a
        assert counted.now == 4000
        kept.add_(1)
        c.mul_(2)
        assert counted.now == 4000
    assert counted.peak == 8000
    del b, c

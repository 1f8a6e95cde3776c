"""What keeps a tensor is named in the user's words; the search itself keeps nothing alive."""

import gc
import weakref
from collections import deque

import pytest
import torch

from gradkit.observe.program.holders import find_holder
from gradkit.observe.program.living import living_tensors


def tensor():
    return (torch.ones(2, requires_grad=True) * 2).sum()


class Log:
    def __init__(self, **entries):
        self.__dict__.update(entries)


def test_names_a_plain_variable():
    total = tensor()
    assert find_holder(total).path == "total"


@pytest.mark.parametrize(
    ("make", "path", "container", "length"),
    [
        (lambda kept: [None, kept], "box[1]", "box", 2),
        (lambda kept: (kept,), "box[0]", "box", 1),
        (lambda kept: deque([kept]), "box[0]", "box", 1),
        (lambda kept: {"loss": [1, kept]}, "box['loss'][1]", "box['loss']", 2),
        (lambda kept: Log(history=[kept]), "box.history[0]", "box.history", 1),
        (lambda kept: Log(total=kept), "box.total", "box.total", None),
    ],
)
def test_names_the_way_through_containers_and_attributes(make, path, container, length):
    box = make(tensor())
    found = find_holder(living_tensors()[0])
    assert box is not None
    assert (found.path, found.container, found.length) == (path, container, length)


def test_names_the_object_when_no_frame_reaches_the_tensor():
    class Hidden:
        __slots__ = ("inner",)  # no attribute the search follows, so only the garbage collector knows

    hidden = Hidden()
    hidden.inner = Log(history=[tensor()])
    found = find_holder(living_tensors()[0])
    assert hidden is not None
    assert (found.path, found.length) == ("Log.history", 1)


def test_searching_does_not_keep_locals_alive():
    def inner():
        local = tensor()
        mark = torch.ones(1)
        reference = weakref.ref(mark)
        find_holder(local)
        del mark
        return reference()

    assert inner() is None
    gc.collect()

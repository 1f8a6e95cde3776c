"""Gradients known by memory and version, also inside the wrappers of sharded training."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from gradkit.observe.tensors.buffers import Look, held_state, hold, holds, inner, is_wrapped, version


@pytest.fixture(scope="module")
def mesh() -> Iterator[object]:
    """One process that is a group of its own; nothing is sent."""
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available() or distributed.is_initialized():
        pytest.skip("no process group of our own")
    from torch.distributed.device_mesh import init_device_mesh

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        yield init_device_mesh("cpu", (1,))
        distributed.destroy_process_group()


def sharded(mesh: object) -> nn.Parameter:
    from torch.distributed.tensor import Shard, distribute_tensor

    parameter = nn.Parameter(distribute_tensor(torch.ones(4, 2), mesh, [Shard(0)]))  # type: ignore[arg-type]
    parameter.grad = distribute_tensor(torch.ones(4, 2), mesh, [Shard(0)])  # type: ignore[arg-type]
    return parameter


def gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def rewrap(parameter: Tensor) -> None:
    """What FSDP1 does to a gradient at every forward: another tensor over the same memory."""
    parameter.grad = gradient(parameter).view(-1).view_as(parameter)


def flat() -> nn.Parameter:
    parameter = nn.Parameter(torch.ones(4))
    parameter.grad = torch.ones(4)
    parameter._fsdp_flattened = True  # type: ignore[attr-defined]
    return parameter


def test_plain_parameters_are_not_taken_for_wrapped_ones(mesh: object) -> None:
    class Marked(Tensor):
        pass

    assert not is_wrapped(nn.Parameter(torch.ones(1)))
    assert not is_wrapped(torch.ones(1, requires_grad=True))
    assert is_wrapped(flat())
    assert is_wrapped(torch.ones(1).as_subclass(Marked))
    assert is_wrapped(sharded(mesh))


def test_a_write_shows_whether_a_dtensor_or_its_local_part_is_written_to(mesh: object) -> None:
    parameter = sharded(mesh)
    for tensor in (parameter, gradient(parameter)):
        seen = [version(tensor)]
        own = [(tensor._version, inner(tensor)._version)]
        with torch.no_grad():
            for written in (tensor, inner(tensor)):
                written.add_(1.0)
                seen.append(version(tensor))
                own.append((tensor._version, inner(tensor)._version))
        assert seen == sorted(set(seen))
        assert own[0][1] == own[1][1], "the first moved the wrapper's version alone"
        assert own[1][0] == own[2][0], "the second moved the local part's version alone"


def test_autograd_accumulating_into_a_dtensor_shows(mesh: object) -> None:
    parameter = sharded(mesh)
    before = Look(parameter)
    (parameter * 2).sum().backward()
    assert Look(parameter) != before
    assert Look(parameter).is_in(before)


def test_a_wrapped_gradient_is_known_again_in_another_tensor_over_its_memory() -> None:
    parameter = flat()
    held = hold(gradient(parameter), wrapped=True)
    rewrap(parameter)
    assert holds(held, gradient(parameter))
    parameter.grad = torch.ones(4)
    assert not holds(held, gradient(parameter))


def test_what_is_remembered_dies_with_the_memory_and_is_not_found_in_what_lies_there_next() -> None:
    parameter = flat()
    held = hold(gradient(parameter), wrapped=True)
    address = gradient(parameter).data_ptr()
    for _ in range(100):
        parameter.grad = None
        gc.collect(0)
        parameter.grad = torch.ones(4)
        assert not holds(held, gradient(parameter))
        if gradient(parameter).data_ptr() == address:
            break


def test_nothing_holds_what_was_never_remembered() -> None:
    assert not holds(None, torch.ones(2))


def test_a_sparse_gradient_of_a_wrapped_parameter_is_known_as_the_tensor_it_is() -> None:
    sparse = torch.eye(2).to_sparse()
    assert holds(hold(sparse, wrapped=True), sparse)
    assert not holds(hold(sparse, wrapped=True), torch.eye(2).to_sparse())


def test_held_states_of_wrapped_and_plain_gradients_have_the_same_form(mesh: object) -> None:
    parameter = sharded(mesh)
    for wrapped, present in ((True, gradient(parameter)), (False, torch.ones(2))):
        held, versions = held_state([present, None], wrapped)
        assert holds(held[0], present)
        assert held[1] is None
        assert versions == [version(present), 0]


def test_looks_are_equal_as_long_as_nothing_is_written_and_nothing_replaced() -> None:
    parameter = nn.Parameter(torch.ones(2))
    assert not Look(parameter)
    assert Look(parameter) == Look(parameter)
    parameter.grad = torch.ones(2)
    first = Look(parameter)
    assert first and first == Look(parameter)
    parameter.grad.add_(1.0)
    assert first != Look(parameter)
    assert Look(parameter).is_in(first)
    parameter.grad = parameter.grad.clone()
    assert not Look(parameter).is_in(first)


def test_a_backward_of_fsdp1_shows_though_memory_and_version_are_what_they_were() -> None:
    parameter = flat()
    gradient(parameter).add_(1.0)
    before = Look(parameter)
    parameter.grad = gradient(parameter).data
    gradient(parameter).add_(1.0)
    after = Look(parameter)
    assert after.version == before.version
    assert after.is_in(before)
    assert after != before


def test_a_forward_of_fsdp1_leaves_a_gradient_as_it_was() -> None:
    parameter = flat()
    before = Look(parameter)
    rewrap(parameter)
    assert Look(parameter).is_as_left(before)
    gradient(parameter).zero_()
    assert not Look(parameter).is_as_left(before)

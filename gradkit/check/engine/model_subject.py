"""A model's loss as a function of its parameters, on a copy of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from gradkit.check.engine.batches import twin_of
from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.precision import format_of
from gradkit.check.engine.slots import Slot
from gradkit.check.engine.subject import Subject

LossFunction = Callable[[nn.Module, Any], Tensor]


def model_subject(
    model: nn.Module, loss_fn: Callable[[nn.Module, Any], Any], batch: Any, cotangent: Any = None
) -> Subject:
    """A model's loss, or any outputs, as a function of its trainable parameters, on a deep copy.

    Raises:
        CheckInputError: No trainable parameter, or a model that cannot be copied.
    """
    twin = twin_of(model)
    trainable = {name: each for name, each in twin.named_parameters() if each.requires_grad}
    if not trainable:
        raise CheckInputError("the model has no trainable parameter; call requires_grad_() on those to be checked.")
    fixed = {
        **{name: each.detach() for name, each in twin.named_parameters() if not each.requires_grad},
        **{name: each.detach().clone() for name, each in twin.named_buffers()},
    }
    place = Places(twin)
    own = format_of(next(iter(trainable.values())).dtype).dtype

    def loss(**parameters: Tensor) -> Any:
        now = next(iter(parameters.values())).dtype

        def cast(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            # In the model's own dtype the batch is passed as it is; in another one it follows.
            follow = now is not own and value.is_floating_point()
            return value.detach().to(now, copy=True) if follow else value.detach().clone()

        place.put({**parameters, **{name: cast(each) for name, each in fixed.items()}})
        return loss_of(loss_fn, twin, tree_map(cast, batch))

    return Subject(loss, trainable, cotangent=cotangent, owned=True)


class Places:
    """Where the parameters and buffers of a model lie, shared ones under each of their names.

    What is put there stays until the next time, so that a checkpoint finds it when it computes its part again in the
    backward pass; `torch.func.functional_call` would have put the model's own tensors back by then.
    """

    def __init__(self, model: nn.Module) -> None:
        first: dict[int, str] = {}
        self._held: list[tuple[dict[str, Any], str, str]] = []
        for prefix, module in model.named_modules(remove_duplicate=True):
            for holder in (module._parameters, module._buffers):
                for key, tensor in holder.items():
                    if tensor is not None:
                        name = first.setdefault(id(tensor), f"{prefix}.{key}" if prefix else key)
                        self._held.append((holder, key, name))

    def put(self, tensors: Mapping[str, Tensor]) -> None:
        """Let the model compute with these; those without a tensor here stay."""
        for holder, key, name in self._held:
            if name in tensors:
                holder[key] = tensors[name]


def loss_of(loss_fn: LossFunction, model: nn.Module, batch: Any) -> Any:
    """The loss function's result.

    Raises:
        CheckInputError: It raised a TypeError, as a loss of outputs and targets does when it is given the model.
    """
    try:
        return loss_fn(model, batch)
    except TypeError as error:
        raise CheckInputError(
            "loss_fn is called as loss_fn(model, batch) and raised TypeError:"
            f" {' '.join(str(error).split())[:200]}. A loss of outputs and targets is given as"
            " `lambda model, batch: loss(model(batch[0]), batch[1])`."
        ) from error


def parameter_name(slot: Slot) -> str:
    """The name of the parameter behind a slot."""
    return slot.name.removeprefix("input ").strip("'")

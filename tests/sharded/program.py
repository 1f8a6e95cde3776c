"""What two processes train, one case after the other, each bare and then watched; torchrun starts it once for all.

Each process writes for every case the rules that spoke, with what they said, and whether watching left the weights
bit-identical. A collective of gradkit's own would not be answered by the other process, or would be answered with
something else, so a case that ends has shown that there was none.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FullyShardedDataParallel,
    MixedPrecision,
    MixedPrecisionPolicy,
    ShardingStrategy,
    fully_shard,
)
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import gradkit

CPU = torch.device("cpu")


def net(dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
    )


def batches(number: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7 + dist.get_rank())
    return [(torch.randn(4, 8, generator=generator), torch.randn(4, 2, generator=generator)) for _ in range(number)]


# --- wrappers -------------------------------------------------------------------------------------------------------


def fsdp1(model: nn.Module, **options: Any) -> nn.Module:
    return FullyShardedDataParallel(model, device_id=CPU, **options)


def fsdp1_orig(model: nn.Sequential) -> nn.Module:
    model[3] = fsdp1(model[3], use_orig_params=True)
    return fsdp1(model, use_orig_params=True)


def fsdp1_flat(model: nn.Sequential) -> nn.Module:
    model[3] = fsdp1(model[3])
    return fsdp1(model)


def fsdp1_bf16(model: nn.Module) -> nn.Module:
    return fsdp1(model, use_orig_params=True, mixed_precision=MixedPrecision(param_dtype=torch.bfloat16))


def fsdp1_replicated(model: nn.Module) -> nn.Module:
    return fsdp1(model, use_orig_params=True, sharding_strategy=ShardingStrategy.NO_SHARD)


def fsdp2(model: nn.Sequential, **options: Any) -> nn.Module:
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=init_device_mesh("cpu", (2,)), **options)
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)), **options)
    return model


def fsdp2_bf16(model: nn.Sequential) -> nn.Module:
    return fsdp2(model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32))


def fsdp2_offload(model: nn.Sequential) -> nn.Module:
    return fsdp2(model, offload_policy=CPUOffloadPolicy(pin_memory=False))


def fsdp2_hybrid(model: nn.Module) -> nn.Module:
    fully_shard(model, mesh=init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard")))
    return model


def fsdp2_checkpointed(model: nn.Sequential) -> nn.Module:
    apply_activation_checkpointing(model, check_fn=lambda layer: layer is model[3])
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    return model


def tensor_parallel(model: nn.Module) -> nn.Module:
    plan = {"0": ColwiseParallel(), "3": RowwiseParallel()}
    return parallelize_module(model, init_device_mesh("cpu", (2,)), plan)  # type: ignore[arg-type]


def ddp(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model)


def ddp_views(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def plain(model: nn.Module) -> nn.Module:
    return model


WRAPPERS = (
    fsdp1_orig,
    fsdp1_flat,
    fsdp1_bf16,
    fsdp1_replicated,
    fsdp2,
    fsdp2_bf16,
    fsdp2_offload,
    fsdp2_hybrid,
    fsdp2_checkpointed,
    tensor_parallel,
    ddp,
    ddp_views,
)
SHARDED = (plain, fsdp1_orig, fsdp1_flat, fsdp2, tensor_parallel)
"""One of each kind."""

CLIPPED = tuple(wrapper for wrapper in WRAPPERS if wrapper is not tensor_parallel)
"""torch refuses to clip plain and sharded gradients together."""

# --- cases ------------------------------------------------------------------------------------------------------------

Case = Callable[[], nn.Module]
CASES: dict[str, tuple[Case, tuple[str, ...]]] = {}


def case(*codes: str, of: tuple[Any, ...] = ()) -> Callable[[Any], Any]:
    """Enter a case, for each of the wrappers if any are named, with the rules that must speak, and no others."""

    def enter(function: Any) -> Any:
        for wrapper in of:
            CASES[f"{function.__name__}[{wrapper.__name__}]"] = (lambda wrapper=wrapper: function(wrapper), codes)
        if not of:
            CASES[function.__name__] = (function, codes)
        return function

    return enter


def adam(model: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr)


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(model(x).float(), y)


@case(of=WRAPPERS)
def sound(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for x, y in batches(6):
        loss_of(model, x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@case(of=WRAPPERS)
def cleared_to_zeros_before_the_backward(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for x, y in batches(6):
        optimizer.zero_grad(set_to_none=False)
        loss_of(model, x, y).backward()
        optimizer.step()
    return model


def unsynchronized(model: nn.Module, last: bool) -> Any:
    if hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(last)
    elif hasattr(model, "no_sync") and not last:
        return model.no_sync()
    return contextlib.nullcontext()


@case(of=WRAPPERS)
def accumulated_without_synchronizing(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for number, (x, y) in enumerate(batches(12)):
        last = number % 3 == 2
        with unsynchronized(model, last):
            (loss_of(model, x, y) / 3).backward()
        if last:
            optimizer.step()
            optimizer.zero_grad()
    return model


@case(of=WRAPPERS)
def accumulated(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for number, (x, y) in enumerate(batches(12)):
        (loss_of(model, x, y) / 3).backward()
        if number % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
    return model


@case(of=CLIPPED)
def clipped(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for x, y in batches(6):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        clip(model)
        optimizer.step()
    return model


def clip(model: nn.Module) -> None:
    if isinstance(model, FullyShardedDataParallel):
        model.clip_grad_norm_(0.1)
    else:
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)


@case(of=(fsdp1_orig, fsdp2, ddp))
def evaluated_between_backward_and_step(wrap: Any) -> nn.Module:
    model = wrap(net(0.5))
    optimizer = adam(model)
    for x, y in batches(6):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        model.eval()
        with torch.no_grad():
            model(x)
        model.train()
        optimizer.step()
    return model


@case("GK101", of=WRAPPERS)
def never_cleared(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for x, y in batches(6):
        loss_of(model, x, y).backward()
        optimizer.step()
    return model


@case("GK101", of=CLIPPED)
def never_cleared_and_clipped(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for x, y in batches(6):
        loss_of(model, x, y).backward()
        clip(model)
        optimizer.step()
    return model


@case("GK101", of=WRAPPERS)
def never_cleared_in_accumulation_without_synchronizing(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for number, (x, y) in enumerate(batches(12)):
        last = number % 3 == 2
        with unsynchronized(model, last):
            (loss_of(model, x, y) / 3).backward()
        if last:
            optimizer.step()
    return model


@case("GK102", of=WRAPPERS)
def cleared_before_the_step(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for x, y in batches(6):
        loss_of(model, x, y).backward()
        optimizer.zero_grad()
        optimizer.step()
    return model


@case("GK102", of=WRAPPERS)
def zeroed_before_the_step(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for x, y in batches(6):
        loss_of(model, x, y).backward()
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()
    return model


@case("GK103", of=WRAPPERS)
def stepped_twice(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = adam(model)
    for x, y in batches(6):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()
        optimizer.step()
    return model


@case("GK201", of=SHARDED)
def evaluated_with_gradients(wrap: Any) -> nn.Module:
    model = wrap(net(0.5))
    optimizer = adam(model)
    for _ in range(3):
        model.train()
        for x, y in batches(3):
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            optimizer.step()
        model.eval()
        for x, _ in batches(3):
            model(x).sum().item()
    return model


@case("GK205", of=SHARDED)
def evaluated_in_train_mode(wrap: Any) -> nn.Module:
    model = wrap(net(0.5))
    optimizer = adam(model)
    for _ in range(3):
        for x, y in batches(3):
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            optimizer.step()
        with torch.no_grad():
            for x, _ in batches(3):
                model(x).sum().item()
    return model


@case("GK204", of=SHARDED)
def trained_in_eval_mode(wrap: Any) -> nn.Module:
    model = wrap(net(0.5))
    optimizer = adam(model)
    for _ in range(3):
        for x, y in batches(3):
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for x, _ in batches(3):
                model(x)
    return model


@case(of=SHARDED)
def evaluated_as_it_should_be(wrap: Any) -> nn.Module:
    model = wrap(net(0.5))
    optimizer = adam(model)
    for _ in range(3):
        model.train()
        for x, y in batches(3):
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for x, _ in batches(3):
                model(x)
    return model


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


class Cut(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).detach().relu())


def whole1(model: nn.Module) -> nn.Module:
    return fsdp1(model, use_orig_params=True)


def whole2(model: nn.Module) -> nn.Module:
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    return model


def columns(model: nn.Module) -> nn.Module:
    plan = {"first": ColwiseParallel(), "second": RowwiseParallel()}
    return parallelize_module(model, init_device_mesh("cpu", (2,)), plan)  # type: ignore[arg-type]


def trained(model: nn.Module) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for x, y in batches(30):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()
    return model


@case("GK203", of=(plain, whole2))
def cut_off(wrap: Any) -> nn.Module:
    return trained(wrap(Cut()))


@case(of=(plain, whole1, whole2, columns))
def not_cut_off(wrap: Any) -> nn.Module:
    return trained(wrap(Two()))


@case("GK402", of=(fsdp2, fsdp2_hybrid, fsdp1_flat))
def optimizer_made_before_sharding(wrap: Any) -> nn.Module:
    model = net()
    optimizer = adam(model)
    wrapped = wrap(model)
    for x, y in batches(8):
        loss_of(wrapped, x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return wrapped


@case("GK401")
def optimizer_made_before_a_part_is_sharded() -> nn.Module:
    model = net()
    optimizer = adam(model)
    tensor_parallel(model)
    for x, y in batches(8):
        loss_of(model, x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@case("GK401", of=(plain, whole2, columns))
def a_part_left_out(wrap: Any) -> nn.Module:
    model = wrap(Two())
    optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if "first" in n], lr=0.01)
    for x, y in batches(8):
        loss_of(model, x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@case("GK403", of=SHARDED)
def at_a_rate_below_rounding(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-14)
    for x, y in batches(24):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()
    return model


@case("GK404", of=SHARDED)
def thrown_about(wrap: Any) -> nn.Module:
    model = wrap(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=1000.0)
    for x, y in batches(40):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(x).float(), (y > 0).float()).backward()
        optimizer.step()
    return model


@case("GK406", of=(plain, whole2, columns))
def frozen_and_moved(wrap: Any) -> nn.Module:
    model = wrap(Two())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for number, (x, y) in enumerate(batches(30)):
        if number == 5:
            for parameter in model.first.parameters():
                parameter.requires_grad_(False)
        optimizer.zero_grad(set_to_none=False)
        loss_of(model, x, y).backward()
        optimizer.step()
    return model


# --- optimizers that are sharded --------------------------------------------------------------------------------------


def zero(model: nn.Module, **options: Any) -> ZeroRedundancyOptimizer:
    return ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.01, **options)


@case()
def zero_sound() -> nn.Module:
    model = ddp(net())
    optimizer = zero(model)
    for x, y in batches(6):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()
    return model


@case()
def zero_in_buckets_sound() -> nn.Module:
    model = ddp_views(net())
    optimizer = zero(model, parameters_as_bucket_view=True)
    for number, (x, y) in enumerate(batches(12)):
        last = number % 3 == 2
        with unsynchronized(model, last):
            (loss_of(model, x, y) / 3).backward()
        if last:
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
    return model


@case("GK101")
def zero_never_cleared() -> nn.Module:
    model = ddp(net())
    optimizer = zero(model)
    for x, y in batches(6):
        loss_of(model, x, y).backward()
        optimizer.step()
    return model


@case("GK102")
def zero_cleared_before_the_step() -> nn.Module:
    model = ddp(net())
    optimizer = zero(model)
    for x, y in batches(6):
        loss_of(model, x, y).backward()
        optimizer.zero_grad()
        optimizer.step()
    return model


@case("GK103")
def zero_stepped_twice() -> nn.Module:
    model = ddp(net())
    optimizer = zero(model)
    for x, y in batches(6):
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()
        optimizer.step()
    return model


# --- processes that hold nothing --------------------------------------------------------------------------------------


@case()
def all_numbers_in_the_other_process() -> nn.Module:
    model = whole2(nn.Linear(8, 1))
    optimizer = adam(model)
    for x, y in batches(6):
        optimizer.zero_grad(set_to_none=False)
        F.mse_loss(model(x), y[:, :1]).backward()
        optimizer.step()
    return model


@contextlib.contextmanager
def silence() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def weights(model: nn.Module) -> list[Tensor]:
    return [getattr(tensor, "_local_tensor", tensor).detach().clone() for tensor in model.parameters()]


def alike(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal to the bit, those of a run that diverged too."""
    return torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8))


def run(function: Case, watched: bool) -> tuple[list[Tensor], Any]:
    torch.manual_seed(0)
    if not watched:
        return weights(function()), None
    with gradkit.watch(report="never") as monitor:
        left = weights(function())
    return left, monitor


def main(folder: str, wanted: str) -> None:
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, (function, codes) in CASES.items():
        if wanted not in name:
            continue
        entry: dict[str, Any] = {"wanted": list(codes)}
        try:
            with silence():
                bare, _ = run(function, False)
                left, monitor = run(function, True)
            entry["same"] = all(map(alike, bare, left))
            entry["steps"] = monitor.info.steps
            entry["findings"] = [
                {"rule": item.rule, "message": item.message, "parameters": list(item.parameters)}
                for item in monitor.findings
                if item.severity.name != "NOTE"
            ]
            entry["crashed"] = [item.message for item in monitor.findings if item.rule == "GK900"]
        except Exception:
            entry["error"] = traceback.format_exc()
        found[name] = entry
    Path(folder, f"{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")

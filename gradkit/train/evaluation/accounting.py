"""What one inference forward costs: bytes saved for backward, graph nodes, time and peak memory."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from gradkit.train.evaluation.inference import Forward, inference
from gradkit.train.evaluation.live_bytes import LiveBytes


@dataclass(frozen=True)
class InferenceCost:
    """The cost of one forward.

    Attributes:
        mode: Inference mode.
        samples: Samples in the forward.
        saved_bytes: Storage kept alive for a backward, without parameters and the input itself [bytes].
        graph_nodes: Nodes of the autograd graph behind the result.
        seconds: Median time of a forward [s].
        peak_bytes: Largest sum of tensor memory allocated by the forward and alive at once [bytes].
    """

    mode: str
    samples: int
    saved_bytes: int
    graph_nodes: int
    seconds: float
    peak_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)


def inference_cost(model: nn.Module, features: Tensor, mode: str, *, repeats: int = 7) -> InferenceCost:
    """Measure one forward of `model` on `features` under `mode`.

    Args:
        model: Maps features `(batch, ...)` to logits `(batch,)`.
        features: On the model's device.
        mode: One of the five of `gradkit.train.evaluation.inference`.
        repeats: Timed forwards.

    Returns:
        The cost; time is measured without the instruments of the other figures.
    """
    with inference(model, mode) as forward:
        seconds = median_seconds(forward, features, repeats=repeats)
        saved, nodes = graph_size(forward, features, model)
        peak, _ = live_bytes(forward, features)
    return InferenceCost(mode, len(features), saved, nodes, seconds, peak)


def median_seconds(forward: Forward, features: Tensor, *, repeats: int, warmups: int = 1) -> float:
    """Median time of a forward [s], after `warmups` that pay for what is set up once."""
    for _ in range(warmups):
        forward(features)
    seconds = []
    for _ in range(repeats):
        _wait(features.device)
        started = time.perf_counter()
        result = forward(features)
        _wait(features.device)
        seconds.append(time.perf_counter() - started)
        del result  # freeing a graph is not part of the forward
    return median(seconds)


def graph_size(forward: Forward, features: Tensor, model: nn.Module) -> tuple[int, int]:
    """Bytes one forward saves for backward, each storage once, and the nodes of its graph.

    Parameters, buffers and the input are not counted: they live anyway.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers(), features)}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward(features)
    return sum(saved.values()), graph_nodes(result)


def live_bytes(forward: Forward, features: Tensor) -> tuple[int, int]:
    """Bytes alive at once during one forward at the most, and after it while only its result is kept."""
    if features.device.type == "cuda":
        before = torch.cuda.memory_allocated(features.device)
        torch.cuda.reset_peak_memory_stats(features.device)
        result = forward(features)
        now, peak = torch.cuda.memory_allocated(features.device), torch.cuda.max_memory_allocated(features.device)
        del result
        return peak - before, now - before
    with LiveBytes() as counted:
        result = forward(features)
        held = counted.now
    del result
    return counted.peak, held


def graph_nodes(result: Tensor) -> int:
    """The number of autograd nodes reachable from `result`; 0 when nothing was recorded."""
    seen: set[Any] = set()
    waiting = [result.grad_fn] if result.grad_fn is not None else []
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend(parent for parent, _ in node.next_functions if parent is not None)
    return len(seen)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

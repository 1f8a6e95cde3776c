"""What one inference forward costs: bytes saved for backward, graph nodes, time and peak memory."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gradkit.train.inference import inference


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
        mode: One of the five of `gradkit.train.inference`.
        repeats: Timed forwards.

    Returns:
        The cost; time is measured without the instruments of the other figures.
    """
    with inference(model, mode) as forward:
        forward(features)  # the first call pays for what is set up once
        seconds = []
        for _ in range(repeats):
            _wait(features.device)
            started = time.perf_counter()
            forward(features)
            _wait(features.device)
            seconds.append(time.perf_counter() - started)

        own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers(), features)}
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = forward(features)
        nodes = graph_nodes(result)
        del result

        if features.device.type == "cuda":
            before = torch.cuda.memory_allocated(features.device)
            torch.cuda.reset_peak_memory_stats(features.device)
            forward(features)
            peak = torch.cuda.max_memory_allocated(features.device) - before
        else:
            with _PeakMemory() as memory:
                forward(features)
            peak = memory.peak
    return InferenceCost(mode, len(features), sum(saved.values()), nodes, median(seconds), peak)


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


class _PeakMemory(TorchDispatchMode):
    """Adds up the storages that operations allocate while it is active, and notes when one dies."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage().data_ptr() for leaf in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in before and storage.data_ptr() not in self._alive:
                self._alive[storage.data_ptr()] = storage.nbytes()
                finalize(storage, self._alive.pop, storage.data_ptr(), None)
        self.peak = max(self.peak, sum(self._alive.values()))
        return result


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

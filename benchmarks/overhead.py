"""What watching costs: four workloads and three other loops, watched over bare, in turns in one process on one thread.

    python benchmarks/overhead.py                 all seven, about twenty minutes
    python benchmarks/overhead.py --only logreg   one of them

Every variant runs in blocks next to a block of the bare loop, the order alternating; the ratio is the median over the
pairs, with quartiles. A watched block begins with steps that are not timed: what gradkit does in the first steps of a
run is its one-time cost, stated apart. On the larger workloads a ratio of wall times cannot resolve 2 % on a shared
machine, so the time inside gradkit's own callbacks is stated beside it ("direct") and judged.

The floor is a hook that takes one `torch._foreach_norm` of all gradients per step, which any tool that reads gradients
pays. torch-audit and torchmortem are measured where they are installed. The result is written to
benchmarks/results/overhead.json.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import gradkit
from gradkit.observe.taps.forwards import FORWARDS

RESULT = Path(__file__).parent / "results" / "overhead.json"


@dataclass
class Workload:
    """A model, its optimizer, a loss, and how many steps a block has.

    Attributes:
        step: One training step.
        model: The model.
        optimizer: The optimizer.
        warm: Steps before the timed ones of a block.
        timed: Steps timed.
        pairs: Pairs of blocks.
        long: Steps before those of the direct time: what comes ever more rarely at the beginning has become rare.
        others: Further models and optimizers that are watched.
        turn: What a step is where it is not the plainest.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[], Tensor]
    warm: int
    timed: int
    pairs: int
    long: int
    others: tuple[Any, ...] = ()
    turn: Callable[[], None] | None = None

    def step(self) -> None:
        """Clear, forward, backward, step; or the turn."""
        if self.turn is not None:
            self.turn()
            return
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()


class Block(nn.Module):
    """The residual block of ResNet-18 (He et al. 2016, figure 5 left)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.short: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            self.short = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions and a short cut."""
        hidden = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(hidden)) + self.short(x))


class Attention(nn.Module):
    """A decoder layer: causal self-attention and a perceptron, each after a norm and beside a short cut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Mix over positions, then over channels."""
        batch, length, width = x.shape
        parts = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


def logreg() -> Workload:
    """Logistic regression, 30 features, batch 64."""
    x, y = torch.randn(64, 30), (torch.rand(64, 1) > 0.5).float()
    model = nn.Linear(30, 1)
    loss = nn.BCEWithLogitsLoss()
    return Workload(model, torch.optim.SGD(model.parameters(), 0.01), lambda: loss(model(x), y), 1500, 1500, 31, 1500)


def mlp() -> Workload:
    """784-512-512-10, batch 128, Adam."""
    x, y = torch.randn(128, 784), torch.randint(10, (128,))
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return Workload(model, torch.optim.Adam(model.parameters()), lambda: F.cross_entropy(model(x), y), 60, 60, 11, 240)


def cnn() -> Workload:
    """ResNet-18's plan at width 16, 32 x 32 images, batch 32, SGD with momentum."""
    plan = [(16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(
        *stem, *(Block(*shape) for shape in plan), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)
    )
    x, y = torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    return Workload(model, optimizer, lambda: F.cross_entropy(model(x), y), 30, 10, 5, 400)


def gpt() -> Workload:
    """Four decoder layers of width 256, 128 positions, batch 8, 512 tokens, AdamW."""
    tokens = torch.randint(512, (8, 129))
    model = nn.ModuleDict(
        {
            "token": nn.Embedding(512, 256),
            "position": nn.Embedding(128, 256),
            "layers": nn.Sequential(*(Attention(256, 8) for _ in range(4))),
            "norm": nn.LayerNorm(256),
            "head": nn.Linear(256, 512, bias=False),
        }
    )
    places = torch.arange(128)

    def loss() -> Tensor:
        hidden = model["layers"](model["token"](tokens[:, :-1]) + model["position"](places))
        return F.cross_entropy(model["head"](model["norm"](hidden)).flatten(0, 1), tokens[:, 1:].flatten())

    return Workload(model, torch.optim.AdamW(model.parameters(), 1e-4), loss, 25, 8, 5, 240)


def _perceptron(outputs: int = 1) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, outputs))
    return model, torch.optim.SGD(model.parameters(), 0.01)


def accumulation() -> Workload:
    """Four micro-batches of 64 in a window, 30-64-1."""
    x, y = torch.randn(64, 30), torch.randn(64, 1)
    model, optimizer = _perceptron()

    def loss() -> Tensor:
        return F.mse_loss(model(x), y) / 4

    def turn() -> None:
        optimizer.zero_grad()
        for _ in range(4):
            loss().backward()
        optimizer.step()

    return Workload(model, optimizer, loss, 300, 300, 21, 600, turn=turn)


def turns() -> Workload:
    """Two models of 30-64-1 and their optimizers in turns, batch 64."""
    x, y = torch.randn(64, 30), torch.randn(64, 1)
    pairs = [_perceptron(), _perceptron()]

    def turn() -> None:
        for model, optimizer in pairs:
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()

    (model, optimizer), others = pairs[0], tuple(pairs[1])
    return Workload(model, optimizer, lambda: F.mse_loss(model(x), y), 400, 400, 21, 800, others=others, turn=turn)


def gan() -> Workload:
    """A generator 30-64-30 against a critic 30-64-1, batch 64."""
    real, noise = torch.randn(64, 30), torch.randn(64, 30)
    (critic, of_critic), (generator, of_generator) = _perceptron(), _perceptron(30)

    def loss() -> Tensor:
        return -critic(generator(noise)).mean()

    def turn() -> None:
        of_critic.zero_grad()
        (critic(generator(noise).detach()).mean() - critic(real).mean()).backward()
        of_critic.step()
        of_generator.zero_grad()
        loss().backward()
        of_generator.step()

    return Workload(generator, of_generator, loss, 400, 400, 21, 800, others=(critic, of_critic), turn=turn)


LOOPS = {"accumulation": accumulation, "turns": turns, "gan": gan}
WORKLOADS = {"logreg": logreg, "mlp": mlp, "cnn": cnn, "gpt": gpt, **LOOPS}


class Direct:
    """Adds up the time inside gradkit's hooks while a watched loop runs: around them, less what they only call."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def on(self, around: AbstractContextManager[Any]) -> Iterator[None]:
        """Watch with `around`, a clock around every entry into the observer and another around torch's own engine."""
        engines = [sys.modules[name] for name in ("torch.autograd", "torch.autograd.graph")]
        optimizers = sys.modules["torch.optim.optimizer"].__dict__
        hooks = [optimizers[f"_global_optimizer_{when}_hooks"] for when in ("pre", "post")]
        with self._replaced(engines, -1), self._clocked_forwards(), around:
            for table in hooks:
                table.update({key: self._clocked(hook, 1) for key, hook in table.items()})
            with self._replaced(engines, 1):
                yield

    @contextmanager
    def _replaced(self, engines: list[Any], sign: int) -> Iterator[None]:
        before = [engine._engine_run_backward for engine in engines]
        for engine, run in zip(engines, before, strict=True):
            engine._engine_run_backward = self._clocked(run, sign)
        try:
            yield
        finally:
            for engine, run in zip(engines, before, strict=True):
                engine._engine_run_backward = run

    @contextmanager
    def _clocked_forwards(self) -> Iterator[None]:
        for name in ("_enter", "_leave"):
            setattr(FORWARDS, name, self._clocked(getattr(FORWARDS, name), 1))
        try:
            yield
        finally:
            del FORWARDS._enter, FORWARDS._leave

    def _clocked(self, function: Callable[..., Any], sign: int) -> Callable[..., Any]:
        def clocked(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += sign * (time.perf_counter() - started)

        return clocked


def seconds_of(work: Workload, around: AbstractContextManager[Any], after: Callable[[], None] | None = None) -> float:
    """Median wall time of a timed step inside `around` [s]; `after` is called before each optimizer step is over."""
    times = []
    with around:
        for number in range(work.warm + work.timed):
            started = time.perf_counter()
            work.step()
            if after is not None:
                after()
            if number >= work.warm:
                times.append(time.perf_counter() - started)
    return statistics.median(times)


def watched(work: Workload, **options: Any) -> AbstractContextManager[Any]:
    """The loop watched by gradkit, with all rules."""
    return gradkit.watch(work.model, work.optimizer, *work.others, report="never", **options)


@contextmanager
def anomaly() -> Iterator[None]:
    """Anomaly mode, torch's own."""
    with torch.autograd.set_detect_anomaly(True):
        yield


def peers(work: Workload) -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    """Other tools that are installed."""
    found: dict[str, Callable[[], AbstractContextManager[Any]]] = {}
    if importlib.util.find_spec("torch_audit"):
        audit = importlib.import_module("torch_audit")
        found["torch-audit"] = lambda: audit.autopatch(work.model, work.optimizer)
    if importlib.util.find_spec("torchmortem"):
        mortem = importlib.import_module("torchmortem")
        found["torchmortem"] = lambda: mortem.watch(work.model, work.optimizer)
    return found


def quartiles(ratios: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"ratio": round(middle, 4), "quartile_low": round(low, 4), "quartile_high": round(high, 4)}


def paired(work: Workload, around: Callable[[], AbstractContextManager[Any]], **more: Any) -> dict[str, float]:
    """The variant's step over the bare step next to it."""
    ratios, bare_steps = [], []
    for pair in range(work.pairs):
        if pair % 2:
            mine, bare = seconds_of(work, around(), **more), seconds_of(work, nullcontext())
        else:
            bare, mine = seconds_of(work, nullcontext()), seconds_of(work, around(), **more)
        ratios.append(mine / bare)
        bare_steps.append(bare)
    return {**quartiles(ratios), "bare_step_us": round(statistics.median(bare_steps) * 1e6, 1)}


def direct(work: Workload, **options: Any) -> dict[str, float]:
    """Time inside gradkit per step of a long run [us], and what its first steps cost together [ms]."""
    clock, steps = Direct(), max(4 * work.timed, work.long // 2)
    with clock.on(watched(work, **options)):
        for _ in range(work.long):
            work.step()
        first, clock.seconds = clock.seconds, 0.0
        for _ in range(steps):
            work.step()
        later = clock.seconds
    return {
        "direct_us": round(later / steps * 1e6, 2),
        "first_steps_ms": round(first * 1e3, 2),
        "first_steps": work.long,
    }


def floor(work: Workload) -> float:
    """Mean time of a hook before each step that takes the norm of every gradient by one `torch._foreach_norm` [s].

    The least that a tool does which looks at gradients; a mean, as the direct time is.
    """
    seconds = 0.0

    def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nonlocal seconds
        started = time.perf_counter()
        torch._foreach_norm([p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None])
        seconds += time.perf_counter() - started

    steps = max(4 * work.timed, work.long // 2)
    handle = work.optimizer.register_step_pre_hook(before_step)
    for _ in range(steps):
        work.step()
    handle.remove()
    return seconds / steps


def measure(name: str) -> dict[str, Any]:
    """All variants of one workload."""
    torch.manual_seed(0)
    work = WORKLOADS[name]()
    for _ in range(work.warm):
        work.step()
    deep = {"deep": True, "on_window": lambda window: None}  # somebody takes the records
    row: dict[str, Any] = {
        "workload": name,
        "standard": {**paired(work, lambda: watched(work)), **direct(work)},
        "deep": {**paired(work, lambda: watched(work, **deep)), **direct(work, **deep)},
        "anomaly": paired(work, anomaly),
        "bare again": paired(work, nullcontext),
    }
    for peer, around in peers(work).items():
        row[peer] = paired(work, around)
    row["floor_us"] = round(floor(work) * 1e6, 1)
    return row


def judged(row: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Budget lines of one workload: what, measured, allowed (PERF budgets 1 and 2)."""
    name, standard, deep = row["workload"], row["standard"], row["deep"]
    if name in LOOPS:
        return [("standard, wall", standard["ratio"], 1.15)]
    share = 1 + standard["direct_us"] / standard["bare_step_us"]
    if name == "logreg":
        lines = [("standard, wall", standard["ratio"], 1.08), ("deep, wall", deep["ratio"], 1.40)]
    else:
        lines = [("standard, direct", share, 1.02)]
        if name in ("cnn", "gpt"):
            lines.append(("deep, floors", deep["direct_us"] / row["floor_us"], 1.5))
    return [*lines, ("deep over anomaly mode", deep["ratio"] / row["anomaly"]["ratio"], 1.0)]


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=list(WORKLOADS))
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [measure(name) for name in WORKLOADS if arguments.only in (None, name)]
    table = Table(title="Watching over the bare loop, one thread")
    for heading in ("workload", "bare step", "standard", "direct", "deep", "deep direct", "floor", "anomaly", "noise"):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [f"{row[kind]['ratio']:.3f}" for kind in ("standard", "deep", "anomaly", "bare again")]
        table.add_row(
            row["workload"],
            f"{row['standard']['bare_step_us']:,.0f} us",
            cells[0],
            f"{row['standard']['direct_us']:.1f} us",
            cells[1],
            f"{row['deep']['direct_us']:.1f} us",
            f"{row['floor_us']:.0f} us",
            *cells[2:],
        )
    console = Console(width=110)
    console.print(table)
    budgets = []
    for row in rows:
        for what, value, allowed in judged(row):
            held = value <= allowed
            budgets.append({"workload": row["workload"], "what": what, "value": round(value, 3), "allowed": allowed})
            console.print(
                f"{row['workload']:<12} {what:<24} {value:.3f}  at most {allowed}  {'held' if held else 'NOT HELD'}"
            )
    document = {
        "command": "python benchmarks/overhead.py",
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "threads": 1},
        "torch": torch.__version__,
        "rows": rows,
        "budgets": budgets,
    }
    arguments.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

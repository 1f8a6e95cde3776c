"""Forwards under one of five ways to evaluate, and what each costs: bytes kept, graph, peak memory, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradkit.config.fields import key
from gradkit.experiment.programs.settings import read_settings, write_run

MODES = ("tracked", "no_grad", "inference_mode", "detach", "requires_grad_false")


@dataclass
class InferenceSettings:
    """One mode on one fully connected model and one batch."""

    mode: str = key("no_grad", "way to evaluate", choices=MODES)
    batch: int = key(256, "samples in the forward", low=1, high=1_000_000)
    depth: int = key(8, "hidden layers", low=1, high=1_000)
    width: int = key(64, "width of each hidden layer", low=1, high=65_536)
    repeats: int = key(30, "forwards timed; the median counts", low=3, high=100_000)
    device: str = key("cpu", "cpu or cuda", choices=("cpu", "cuda"))
    seed: int = key(0, "of weights and inputs", low=0)


def resolved(overrides: Sequence[str]) -> dict[str, Any]:
    """See `Program`."""
    return asdict(read_settings(InferenceSettings, overrides, 0))


def run(overrides: Sequence[str], seed: int, folder: Path) -> None:
    """See `Program`."""
    settings = read_settings(InferenceSettings, overrides, seed)
    write_run(folder, overrides, settings, lambda store: measured(settings), settings.device)


def measured(settings: InferenceSettings) -> dict[str, float]:
    """What one mode costs.

    Returns:
        `saved_bytes`: held by the graph beyond parameters and input, while the output lives. `graph_nodes`: nodes of
        the autograd graph. `peak_bytes`: most alive at once beyond parameters and input. `held_bytes`: alive after the
        forward while only the output is kept. `forward_seconds`: median of the timed forwards.
        `logit_difference`: largest absolute difference to the tracked forward.
    """
    import torch
    from torch import nn

    from gradkit.train.evaluation.accounting import graph_size, live_bytes, median_seconds
    from gradkit.train.evaluation.inference import inference

    torch.manual_seed(settings.seed)
    layers: list[nn.Module] = []
    for _ in range(settings.depth):
        layers += [nn.Linear(settings.width, settings.width), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(settings.width, 1), nn.Flatten(0)).to(settings.device)
    features = torch.randn(settings.batch, settings.width, device=settings.device)
    expected = model(features).detach()
    with inference(model, settings.mode) as forward:
        saved, nodes = graph_size(forward, features, model)
        peak, held = live_bytes(forward, features)
        seconds = median_seconds(forward, features, repeats=settings.repeats, warmups=3)
        with torch.no_grad():
            difference = float((forward(features) - expected).abs().max())
    return {
        "saved_bytes": saved,
        "graph_nodes": nodes,
        "peak_bytes": peak,
        "held_bytes": held,
        "forward_seconds": seconds,
        "logit_difference": difference,
    }

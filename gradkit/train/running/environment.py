"""Facts about this process for the manifest: versions, device, precision."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

import torch
from lightning.fabric import Fabric

PACKAGES = (
    "torch",
    "lightning",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scipy",
    "scikit-learn",
    "torchmetrics",
    "pyarrow",
)


def versions() -> dict[str, str]:
    """The versions of gradkit, Python and the packages a result depends on; an absent one is left out."""
    import gradkit

    found = {"gradkit": gradkit.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def effective_precision(fabric: Fabric, dtype: torch.dtype) -> str:
    """What the loop computes in: `64-true` for float64 parameters, otherwise what Fabric settled on."""
    return "64-true" if dtype == torch.float64 else str(fabric.strategy.precision.precision)


def environment(fabric: Fabric, dtype: torch.dtype) -> dict[str, Any]:
    """Where and how the run really computes; Fabric may have replaced what was asked for."""
    device = fabric.device
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "processes": fabric.world_size,
        "strategy": type(fabric.strategy).__name__,
        "precision": effective_precision(fabric, dtype),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "argv": sys.argv[1:],
    }

"""A fixture that fails any test which leaves a hook, patch or mode behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch
from torch.nn.utils import clip_grad


def surroundings() -> dict[str, object]:
    """Everything gradkit may attach to, by identity."""
    optim = sys.modules["torch.optim.optimizer"]
    return {
        "engine": torch.autograd._engine_run_backward,
        "engine in graph": sys.modules["torch.autograd.graph"]._engine_run_backward,
        "Optimizer.__init__": torch.optim.Optimizer.__init__,
        "zero_grad": torch.optim.Optimizer.zero_grad,
        "clip": vars(clip_grad).get("_clip_grads_with_norm_"),
        "clip value": clip_grad.clip_grad_value_,
        "pre hooks": tuple(optim._global_optimizer_pre_hooks),
        "post hooks": tuple(optim._global_optimizer_post_hooks),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "loader": torch.utils.data.dataloader._BaseDataLoaderIter.__next__,
        "loader start": torch.utils.data.DataLoader.__iter__,
        # Lightning wraps `torch.compile` when it is imported.
        "compile": "gradkit" in torch.compile.__code__.co_filename,
        "export": torch.export.export,
        "mode": torch.nn.Module.train,
        "no_grad": torch.no_grad.__enter__,
        "inference_mode": torch.inference_mode.__enter__,
        "module pre hooks": tuple(torch.nn.modules.module._global_forward_pre_hooks),
        "any module hook": torch.nn.modules.module._has_any_global_hook(),
        "module hooks": tuple(torch.nn.modules.module._global_forward_hooks),
    }


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    before = surroundings()
    yield
    assert surroundings() == before, "something is still attached to torch"

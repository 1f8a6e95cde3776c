"""With two processes, `both` compares the averaged gradients, and every process reports the same difference."""

import socket
from pathlib import Path

import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from gradkit.train.gradients import build_gradient
from gradkit.train.loop.losses import build_loss
from gradkit.train.models import build_model
from gradkit.train.schema.models import GradientConfig, LossConfig, MlpModel
from tests.train.gradients.cases import batch


def _process(rank: int, port: int, folder: str) -> None:
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(0)
    model = build_model(MlpModel(hidden=[5]), (3,)).double()
    wrapped = DistributedDataParallel(model)
    config = LossConfig(l2=0.1)
    method = build_gradient(
        GradientConfig(name="both"), wrapped, model, config, build_loss(config), lambda value: value.backward()
    )
    for step, share in enumerate((0.5, 0.5)):
        x, y = batch(8, 3, torch.float64, seed=10 * rank + step)  # other data in each process
        with wrapped.no_sync() if step == 0 else torch.enable_grad():
            method.backward(method.forward(x, y), share)
    differences = method.differences()
    torch.save((differences, [p.grad for p in model.parameters()]), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_the_averaged_gradients_agree(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_process, args=(port, str(tmp_path)), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert results[0][0] == results[1][0]
    assert results[0][0]["manual_ulp_diff"] <= 16
    assert results[0][1][0].abs().max() > 1e-3

"""Lightning's own demo models, watched with every rule, stay silent and compute what they compute unwatched."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pl = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.demos import boring_classes as boring  # noqa: E402
from lightning.pytorch.demos.lstm import LightningLSTM, SequenceSampler, SimpleLSTM  # noqa: E402
from lightning.pytorch.demos.transformer import Transformer  # noqa: E402

from gradkit.integrations.lightning import GradientHygiene  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


class Demo(boring.DemoModel):
    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(boring.RandomDataset(32, 32), batch_size=4)

    def training_step(self, batch: Any, batch_nb: int) -> torch.Tensor:
        return self(batch).sum()


class Recurrent(LightningLSTM):
    """The demo's recurrent network, small, at its own learning rate of 20, on a random text."""

    def __init__(self) -> None:
        super().__init__(vocab_size=40)
        self.model = SimpleLSTM(vocab_size=40, ninp=24, nhid=24, nlayers=2)

    def prepare_data(self) -> None:
        pass

    def train_dataloader(self) -> Any:
        text = torch.randint(40, (801,), generator=torch.Generator().manual_seed(1))
        pairs = [(text[i : i + 10], text[i + 1 : i + 11]) for i in range(0, 800 - 10, 10)]
        sampler = SequenceSampler(pairs, batch_size=4)
        return torch.utils.data.DataLoader(pairs, batch_sampler=sampler)


class Language(pl.LightningModule):
    """The demo transformer on random tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Transformer(vocab_size=40, ninp=16, nhead=2, nhid=16, nlayers=2)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        (tokens,) = batch
        inputs, target = tokens[:, :-1], tokens[:, 1:]
        return torch.nn.functional.nll_loss(self.model(inputs, target), target.reshape(-1))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adagrad(self.parameters(), lr=0.05)

    def train_dataloader(self) -> Any:
        tokens = torch.randint(40, (32, 12), generator=torch.Generator().manual_seed(1))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(tokens), batch_size=4)

    val_dataloader = train_dataloader


MODELS = {
    "boring": boring.BoringModel,
    "demo": Demo,
    "manual": boring.ManualOptimBoringModel,
    "recurrent": Recurrent,
    "transformer": Language,
}


def fit(model_class: Any, callback: Any, **options: Any) -> Any:
    pl.seed_everything(0, verbose=False)
    model = model_class()
    trainer = pl.Trainer(
        max_epochs=2,
        limit_train_batches=12,
        limit_val_batches=3,
        accelerator="cpu",
        callbacks=[callback] if callback else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(model)
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 4}, {"precision": "bf16-mixed"}], ids=str)
def test_a_demo_model_stays_silent_and_unchanged(name: str, options: dict[str, Any]) -> None:
    if "accumulate_grad_batches" in options and name == "manual":
        pytest.skip("manual optimization accumulates by itself")
    if name == "recurrent":
        options = {**options, "gradient_clip_val": 0.25}
    try:
        bare = fit(MODELS[name], None, **options)
    except RuntimeError as error:
        if "could not create a primitive" not in str(error):
            raise
        pytest.skip(f"this processor cannot do it unwatched: {error}")
    callback = GradientHygiene(report="never")
    watched = fit(MODELS[name], callback, **options)
    assert [f"{f.rule} {f.message} {f.location}" for f in callback.findings] == []
    for one, other in zip(bare.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, other)

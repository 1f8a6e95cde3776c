"""The values a training run gets from its data source: three splits and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Samples of one split, in the order of the source.

    Attributes:
        features: (samples, *input_shape), float32, on the CPU, contiguous.
        targets: (samples,), float32, 0 or 1.
    """

    features: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return self.features.shape[0]


@dataclass(frozen=True)
class Dataset:
    """A data source, split and scaled.

    Attributes:
        name: Name of the source, as in `data=NAME`.
        train: Samples to train on.
        validation: Samples for the evaluations during training.
        test: Samples for the final evaluation.
        input_shape: Shape of one sample: (30,), or (1, 8, 8) for images.
        feature_names: One name per number of a sample, in memory order.
        fingerprint: Identifies the source, not the split: `sha256:...` of a file's bytes, of bundled arrays or of
            the parameters of generated data; `sha256-sampled:...` of the size and sampled blocks of a large file.
        label_mapping: Label in the source to target: {"malignant": 0, "benign": 1}.
        notes: Conversions made, one sentence each, for the run to print.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    input_shape: tuple[int, ...]
    feature_names: tuple[str, ...]
    fingerprint: str
    label_mapping: dict[str, int]
    notes: tuple[str, ...]

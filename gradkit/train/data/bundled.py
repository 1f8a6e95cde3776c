"""Data that needs no file: two sets inside scikit-learn, and the worked example."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from gradkit.errors import ConfigError
from gradkit.train.data.columns import choose_features
from gradkit.train.data.dataset import Dataset, Split
from gradkit.train.data.samples import Array, ArrayBlocks, Samples
from gradkit.train.schema.data import BreastCancerData, WorkedExampleData


def breast_cancer(config: BreastCancerData) -> Samples:
    """569 samples of 30 measurements on cell nuclei; target 1 is a benign tumour.

    Raises:
        DataError: `data.features` names a feature that does not exist, or none.

    Source:
        Wolberg, Mangasarian, Street, Street, "Breast Cancer Wisconsin (Diagnostic)", UCI Machine Learning
        Repository, 1993, as shipped with scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer

    source = load_breast_cancer()
    names = [str(name) for name in source.feature_names]
    chosen = choose_features(names, config.features, "data=breast_cancer")
    features = source.data[:, [names.index(name) for name in chosen]]
    return Samples(
        where="data=breast_cancer",
        features=ArrayBlocks(features),
        targets=source.target.astype(np.float32),
        feature_names=tuple(chosen),
        label_mapping={"malignant": 0, "benign": 1},
        fingerprint=_array_fingerprint(features, source.target),
    )


def digits_odd() -> Samples:
    """1797 images of handwritten digits, (1, 8, 8), grey values 0 to 1; target 1 is an odd digit.

    All pixels share one mean and one standard deviation: pixels at the border are almost always 0, and dividing
    them by their own small spread would blow a single stray dot up to 33 standard deviations.

    Source:
        Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, as
        shipped with scikit-learn.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    images = source.images[:, None, :, :] / 16.0
    return Samples(
        where="data=digits_odd",
        features=ArrayBlocks(images),
        targets=(source.target % 2).astype(np.float32),
        feature_names=tuple(str(name) for name in source.feature_names),
        label_mapping={"even": 0, "odd": 1},
        fingerprint=_array_fingerprint(images, source.target),
        one_scale=True,
    )


def worked_example(config: WorkedExampleData) -> Dataset:
    """One sample that serves training, validation and test alike, as it is.

    Raises:
        ConfigError: Scaling was asked for; one sample has no spread.
    """
    if config.standardize:
        raise ConfigError("data.standardize=true does not go with data=worked_example: one sample has no spread.")
    features = np.array([[config.x]], dtype=np.float32)
    targets = np.array([config.y], dtype=np.float32)
    split = Split(torch.from_numpy(features), torch.from_numpy(targets))
    return Dataset(
        name=config.name,
        train=split,
        validation=split,
        test=split,
        input_shape=(1,),
        feature_names=("x",),
        fingerprint=_array_fingerprint(features, targets),
        label_mapping={"0": 0, "1": 1},
        notes=("One sample serves training, validation and test.",),
    )


def _array_fingerprint(*arrays: Array) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"sha256:{digest.hexdigest()}"

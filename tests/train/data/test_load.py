"""The sources that need no file."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from gradkit.errors import ConfigError, DataError
from gradkit.train.data import load_dataset
from gradkit.train.data import synthetic as synthetic_module
from gradkit.train.schema.data import BreastCancerData, DataConfig, DigitsOddData, SyntheticData, WorkedExampleData


def splits(dataset):
    return dataset.train, dataset.validation, dataset.test


def equal(a, b):
    return all(
        torch.equal(x.features, y.features) and torch.equal(x.targets, y.targets)
        for x, y in zip(splits(a), splits(b), strict=True)
    )


@pytest.mark.parametrize(
    "config", [BreastCancerData(), DigitsOddData(), WorkedExampleData(), SyntheticData(samples=300, seed=1)]
)
def test_every_source_gives_float32_tensors_with_both_classes(config):
    dataset = load_dataset(config, 0)
    assert dataset.name == config.name
    assert dataset.fingerprint.startswith("sha256:")
    assert len(dataset.feature_names) == np.prod(dataset.input_shape)
    for split in splits(dataset):
        assert split.features.shape == (len(split), *dataset.input_shape)
        assert split.features.dtype == split.targets.dtype == torch.float32
        assert split.features.is_contiguous() and split.features.isfinite().all()
        if config.name != "worked_example":
            assert set(split.targets.tolist()) == {0, 1}
    assert equal(dataset, load_dataset(config, 0))


def test_breast_cancer_is_split_and_scaled_by_its_training_samples():
    dataset = load_dataset(BreastCancerData(), 0)
    assert [len(split) for split in splits(dataset)] == [343, 113, 113]
    assert dataset.label_mapping == {"malignant": 0, "benign": 1}
    features = dataset.train.features.double()
    # Rounding to float32 moves a mean over 343 numbers of size 1 by less than 1e-7.
    assert features.mean(0).abs().max() < 1e-6
    assert (features.std(0, correction=0) - 1).abs().max() < 1e-6
    assert dataset.test.features.mean(0).abs().max() > 1e-3
    share = torch.tensor([split.targets.mean() for split in splits(dataset)])
    assert (share - 357 / 569).abs().max() < 0.005


def test_the_seed_changes_the_split_and_not_the_fingerprint():
    a, b = load_dataset(BreastCancerData(), 0), load_dataset(BreastCancerData(), 1)
    assert not equal(a, b)
    assert a.fingerprint == b.fingerprint


def test_chosen_features_are_taken_in_the_order_asked_for():
    dataset = load_dataset(BreastCancerData(features=["mean area", "mean radius"], standardize=False), 0)
    every = load_dataset(BreastCancerData(standardize=False), 0)
    assert dataset.feature_names == ("mean area", "mean radius")
    assert torch.equal(dataset.train.features, every.train.features[:, [3, 0]])
    assert dataset.fingerprint != every.fingerprint
    with pytest.raises(
        DataError, match=r"'mean raduis' in data\.features is not a column\. Did you mean 'mean radius'\?"
    ):
        load_dataset(BreastCancerData(features=["mean raduis"]), 0)


def test_breast_cancer_can_be_learnt_from_these_splits():
    accuracy = []
    for seed in range(5):
        data = load_dataset(BreastCancerData(), seed)
        model = LogisticRegression().fit(data.train.features.numpy(), data.train.targets.numpy())
        accuracy.append(model.score(data.test.features.numpy(), data.test.targets.numpy()))
    assert np.median(accuracy) >= 0.96


def test_digits_share_one_scale_and_keep_their_shape():
    dataset = load_dataset(DigitsOddData(), 0)
    assert dataset.input_shape == (1, 8, 8)
    assert dataset.label_mapping == {"even": 0, "odd": 1}
    features = dataset.train.features.double()
    assert abs(float(features.mean())) < 1e-6
    assert abs(float(features.std(correction=0)) - 1) < 1e-6
    assert len(features[:, 0, 0, 0].unique()) == 1
    raw = load_dataset(DigitsOddData(standardize=False), 0)
    assert (raw.train.features.min(), raw.train.features.max()) == (0, 1)


def test_the_worked_example_serves_all_three_splits():
    dataset = load_dataset(WorkedExampleData(), 0)
    for split in splits(dataset):
        assert split.features.tolist() == [[pytest.approx(6.7)]]
        assert split.targets.tolist() == [0]
    with pytest.raises(ConfigError, match=r"data\.standardize=true does not go with data=worked_example"):
        load_dataset(WorkedExampleData(standardize=True), 0)


def test_an_unknown_source_is_refused():
    with pytest.raises(ConfigError, match=r"data\.name='moons' is not a data source"):
        load_dataset(DataConfig(name="moons"), 0)


def every_target(dataset):
    return torch.cat([split.targets for split in splits(dataset)])


@pytest.mark.parametrize(("share", "flips"), [(0.2, 0), (0.2, 0.3), (0.5, 0.3), (0.9, 0), (0.9, 0.1)])
def test_synthetic_data_keep_the_stated_balance(share, flips):
    dataset = load_dataset(SyntheticData(samples=1000, positive_share=share, label_flips=flips, seed=3), 0)
    assert int(every_target(dataset).sum()) == round(share * 1000)


def test_more_flips_than_a_class_has_samples_are_refused():
    with pytest.raises(ConfigError, match=r"data\.label_flips=0\.4 with data\.positive_share=0\.1.*at most 0\.2"):
        load_dataset(SyntheticData(samples=1000, positive_share=0.1, label_flips=0.4, seed=3), 0)


@pytest.mark.parametrize(("noise", "flips", "expected"), [(0.0, 0.0, 1.0), (1.0, 0.0, 0.75), (0.0, 0.2, 0.8)])
def test_the_best_accuracy_on_synthetic_data_is_the_documented_one(noise, flips, expected):
    config = SyntheticData(samples=40_000, dimensions=5, noise=noise, label_flips=flips, seed=4)
    data = load_dataset(config, 0)
    model = LogisticRegression(C=100).fit(data.train.features.numpy(), data.train.targets.numpy())
    # 8,000 test samples: standard error at most 0.005.
    assert model.score(data.test.features.numpy(), data.test.targets.numpy()) == pytest.approx(expected, abs=0.02)


def test_synthetic_features_are_standard_normal():
    data = load_dataset(SyntheticData(samples=50_000, dimensions=4, standardize=False, seed=5), 0)
    features = data.train.features
    # 30,000 samples: standard error of a covariance is 0.006.
    assert (torch.cov(features.T) - torch.eye(4)).abs().max() < 0.03
    assert features.mean(0).abs().max() < 0.03


def test_synthetic_data_come_from_their_own_seed_and_no_global_state():
    before = torch.get_rng_state()
    config = SyntheticData(samples=500, seed=1)
    a, b = load_dataset(config, 0), load_dataset(config, 9)
    assert torch.equal(before, torch.get_rng_state())
    assert a.fingerprint == b.fingerprint
    assert sorted(a.train.features.flatten().tolist()) != sorted(b.train.features.flatten().tolist())
    other = load_dataset(SyntheticData(samples=500, seed=2), 0)
    assert other.fingerprint != a.fingerprint
    assert not torch.equal(other.train.features, a.train.features)


def test_synthetic_data_do_not_depend_on_the_default_dtype_or_device():
    expected = load_dataset(SyntheticData(samples=100, seed=1), 0)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert equal(expected, load_dataset(SyntheticData(samples=100, seed=1), 0))
    finally:
        torch.set_default_dtype(torch.float32)


def test_synthetic_blocks_are_the_same_on_every_walk(monkeypatch):
    monkeypatch.setattr("gradkit.train.data.samples.BLOCK_NUMBERS", 100)
    samples = synthetic_module.synthetic(SyntheticData(samples=57, dimensions=10, seed=1))
    walks = [np.concatenate(list(samples.features.blocks())) for _ in range(2)]
    assert np.array_equal(*walks)
    assert walks[0].shape == (57, 10)


def test_synthetic_data_beyond_the_memory_are_refused_at_once():
    with pytest.raises(DataError, match=r"data\.samples=10000000 with data\.dimensions=100000: needs 3,7.* GiB"):
        load_dataset(SyntheticData(samples=10_000_000, dimensions=100_000, seed=0), 0)

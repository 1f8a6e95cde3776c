"""The table of choices that do not go together; each row is a condition and the sentence a user reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gradkit.train.schema import TrainConfig
from gradkit.train.schema.data import delimiter_character

HAND_DERIVED_MODELS = ("notebook", "logistic", "mlp")
MIXED_PRECISIONS = ("bf16-mixed", "16-mixed")
BUNDLED_FEATURES: Mapping[str, int] = MappingProxyType({"breast_cancer": 30, "digits_odd": 64, "worked_example": 1})


@dataclass(frozen=True)
class Combination:
    """One combination that cannot be run.

    Attributes:
        broken: Whether a configuration is such a combination; every value is in its own range already.
        message: The sentence for it: what clashes, and what to do.
    """

    broken: Callable[[TrainConfig], bool]
    message: Callable[[TrainConfig], str]


def feature_count(config: TrainConfig) -> int | None:
    """How many features the data has, where that is known before it is read."""
    if (features := getattr(config.data, "features", None)) is not None:
        return len(features)
    dimensions = getattr(config.data, "dimensions", None)
    return int(dimensions) if dimensions is not None else BUNDLED_FEATURES.get(config.data.name)


def _by_hand(config: TrainConfig) -> bool:
    return config.gradient.name in ("manual", "both")


def _sparse(config: TrainConfig) -> bool:
    return bool(getattr(config.model, "sparse_gradients", False))


def _set(config: TrainConfig, key: str) -> bool:
    return bool(getattr(config.optimizer, key, False))


def _too_few_features(config: TrainConfig) -> bool:
    count = feature_count(config)
    return config.model.name == "notebook" and count is not None and getattr(config.model, "feature", 0) >= count


COMBINATIONS: tuple[Combination, ...] = (
    # Mode.
    Combination(
        lambda c: c.mode == "evaluate" and c.run is None,
        lambda c: "mode=evaluate needs the run folder to evaluate; add run=FOLDER.",
    ),
    Combination(
        lambda c: c.mode != "evaluate" and c.run is not None,
        lambda c: "run names a folder to evaluate; add mode=evaluate, or use trainer.resume=FOLDER to go on training.",
    ),
    Combination(
        lambda c: c.mode == "evaluate" and c.trainer.resume is not None,
        lambda c: "trainer.resume goes on training and mode=evaluate does not train; give one of them.",
    ),
    # Hand-derived gradients.
    Combination(
        lambda c: _by_hand(c) and c.model.name not in HAND_DERIVED_MODELS,
        lambda c: (
            f"gradient={c.gradient.name} is derived by hand for model={', model='.join(HAND_DERIVED_MODELS)};"
            f" for model={c.model.name} use gradient=autograd."
        ),
    ),
    Combination(
        lambda c: _by_hand(c) and c.trainer.precision in MIXED_PRECISIONS,
        lambda c: (
            f"gradient={c.gradient.name} works in trainer.precision=32 or 64; {c.trainer.precision} needs autograd."
        ),
    ),
    Combination(
        lambda c: _by_hand(c) and c.trainer.compile,
        lambda c: f"gradient={c.gradient.name} has nothing for trainer.compile=true to compile; use gradient=autograd.",
    ),
    Combination(
        lambda c: _by_hand(c) and c.loss.name == "custom",
        lambda c: f"gradient={c.gradient.name} has no derivative of loss=custom; use gradient=autograd.",
    ),
    Combination(
        lambda c: c.mode != "evaluate" and c.gradient.name == "both" and not c.trainer.record,
        lambda c: (
            "gradient=both records how far the two gradients are apart, which trainer.record=false leaves out; use"
            " gradient=autograd, or record."
        ),
    ),
    # Faults.
    Combination(
        lambda c: c.fault.name != "none" and c.gradient.name == "manual",
        lambda c: (
            f"fault={c.fault.name} is a fault of training by autograd; gradient=manual runs no backward. Use"
            " gradient=autograd or gradient=both."
        ),
    ),
    Combination(
        lambda c: c.fault.name in ("cleared_early", "stepped_twice") and c.optimizer.name == "lbfgs",
        lambda c: (
            f"fault={c.fault.name} changes what stands between backward and step; optimizer=lbfgs computes gradients"
            " within its step. Use another optimizer."
        ),
    ),
    # Optimizers.
    Combination(
        lambda c: c.optimizer.name == "lbfgs" and c.optimizer.weight_decay > 0,
        lambda c: "optimizer=lbfgs takes no optimizer.weight_decay; use loss.l2 instead.",
    ),
    Combination(
        lambda c: c.optimizer.name == "lbfgs" and c.trainer.precision == "16-mixed",
        lambda c: (
            "optimizer=lbfgs cannot work with the loss scaling of trainer.precision=16-mixed; use bf16-mixed or 32."
        ),
    ),
    Combination(
        lambda c: c.optimizer.name == "lbfgs" and c.trainer.devices > 1,
        lambda c: "optimizer=lbfgs evaluates the loss several times per step and works on trainer.devices=1 only.",
    ),
    Combination(
        # torch's strong-Wolfe search divides by the difference of two steps, which is 0 at a learning rate of 0.
        lambda c: c.optimizer.name == "lbfgs" and c.schedule.name == "warmup",
        lambda c: (
            "optimizer=lbfgs searches for its own step and cannot start from a learning rate of 0;"
            " take schedule=constant."
        ),
    ),
    Combination(
        lambda c: _set(c, "nesterov") and not _set(c, "momentum"),
        lambda c: "optimizer.nesterov=true needs optimizer.momentum > 0; try optimizer=nesterov, which sets 0.9.",
    ),
    Combination(
        lambda c: _sparse(c) and c.optimizer.name not in ("sgd", "adagrad"),
        lambda c: (
            f"model.sparse_gradients=true works with optimizer=sgd, momentum, nesterov and adagrad;"
            f" torch's {c.optimizer.name} takes dense gradients only."
        ),
    ),
    Combination(
        lambda c: _sparse(c) and c.optimizer.weight_decay > 0,
        lambda c: "model.sparse_gradients=true needs optimizer.weight_decay=0: the decay of a weight is dense.",
    ),
    Combination(
        lambda c: _sparse(c) and (c.trainer.clip_norm is not None or c.trainer.clip_value is not None),
        lambda c: "model.sparse_gradients=true cannot be clipped; leave out trainer.clip_norm and trainer.clip_value.",
    ),
    # Models and data.
    Combination(
        lambda c: c.model.name == "cnn_digits" and c.data.name != "digits_odd",
        lambda c: f"model=cnn_digits takes the 8 x 8 images of data=digits_odd, not data={c.data.name}.",
    ),
    Combination(
        _too_few_features,
        lambda c: (
            f"model.feature: data={c.data.name} has {feature_count(c)} feature(s), counted from 0;"
            f" got {getattr(c.model, 'feature', 0)}."
        ),
    ),
    Combination(
        lambda c: getattr(c.model, "hidden", None) == [],
        lambda c: "model.hidden: expected at least one width, such as [64]; without hidden layers use model=logistic.",
    ),
    Combination(
        lambda c: bool(getattr(c.model, "batch_norm", False)) and c.trainer.batch_size == 1,
        lambda c: "model.batch_norm=true needs trainer.batch_size > 1: one sample has no spread.",
    ),
    Combination(
        lambda c: c.data.name == "worked_example" and c.data.standardize,
        lambda c: "data.standardize must stay false for data=worked_example: one sample has no spread.",
    ),
    Combination(
        lambda c: c.data.name != "worked_example" and c.data.validation_fraction + c.data.test_fraction >= 1,
        lambda c: (
            f"data.validation_fraction + data.test_fraction must be below 1 to leave samples for training;"
            f" got {c.data.validation_fraction} + {c.data.test_fraction}."
        ),
    ),
    Combination(
        lambda c: getattr(c.data, "features", None) == [],
        lambda c: "data.features: expected at least one name, or null for all.",
    ),
    Combination(
        lambda c: len(set(getattr(c.data, "features", None) or ())) < len(getattr(c.data, "features", None) or ()),
        lambda c: "data.features names a feature twice.",
    ),
    Combination(
        lambda c: getattr(c.data, "target", None) in (getattr(c.data, "features", None) or ()),
        lambda c: f"data.features holds the target {getattr(c.data, 'target', '')!r}; leave it out of them.",
    ),
    Combination(
        lambda c: delimiter_character(getattr(c.data, "delimiter", ",")) is None,
        lambda c: (
            "data.delimiter: expected one ASCII character, such as \"data.delimiter=';'\", or data.delimiter=tab;"
            f" got {getattr(c.data, 'delimiter', '')!r}."
        ),
    ),
    Combination(
        lambda c: getattr(c.data, "decimal", ".") == delimiter_character(getattr(c.data, "delimiter", ",")),
        lambda c: (
            f"data.decimal={getattr(c.data, 'decimal', '')!r} is the delimiter too; add the character between two"
            " cells, such as \"data.delimiter=';'\"."
        ),
    ),
    # Trainer.
    Combination(
        lambda c: c.trainer.clip_norm is not None and c.trainer.clip_value is not None,
        lambda c: "trainer.clip_norm and trainer.clip_value are two ways to clip; give one of them.",
    ),
    Combination(
        lambda c: (
            c.schedule.name in ("cosine", "one_cycle")
            and c.trainer.max_seconds is not None
            and c.trainer.max_steps is None
        ),
        lambda c: (
            f"schedule={c.schedule.name} is laid out over the steps of the run, which trainer.max_seconds leaves open;"
            " give trainer.max_steps too, or leave trainer.max_seconds out."
        ),
    ),
    Combination(
        lambda c: c.schedule.name == "one_cycle" and c.trainer.max_steps == 1,
        lambda c: (
            "schedule=one_cycle rises and falls, which takes at least 2 optimizer steps; got trainer.max_steps=1. Take"
            " more steps or schedule=constant."
        ),
    ),
    Combination(
        lambda c: c.trainer.accelerator == "mps" and c.trainer.precision == "64",
        lambda c: "trainer.accelerator=mps has no float64; use trainer.precision=32 or trainer.accelerator=cpu.",
    ),
)
"""Checked in this order; the first that is broken is reported."""

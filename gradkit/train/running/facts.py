"""What is said of a training process before its first step: in the manifest, and on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradkit.train.running.environment import effective_precision, environment, versions

if TYPE_CHECKING:
    from gradkit.train.running.session import Session


def facts(session: Session) -> dict[str, Any]:
    """What the manifest says about data, model and machine."""
    dataset = session.dataset
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {
        "versions": versions(),
        "environment": environment(session.fabric, session.dtype),
        "data": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "label_mapping": dataset.label_mapping,
            "samples": {name: len(split.targets) for name, split in splits.items()},
            "positives": {name: int(split.targets.sum()) for name, split in splits.items()},
            "features": list(dataset.feature_names)[:1000],
            "input_shape": list(dataset.input_shape),
            "notes": list(dataset.notes),
        },
        "model": {"name": session.config.model.name, "parameters": _parameter_count(session)},
    }


def introduction(session: Session) -> list[str]:
    """The lines printed before training."""
    data, config = session.dataset, session.config
    sizes = f"{len(data.train.targets):,} / {len(data.validation.targets):,} / {len(data.test.targets):,}"
    mapping = ", ".join(f"{label} = {value}" for label, value in data.label_mapping.items())
    lines = [f"data {data.name}: {sizes} samples (train / validation / test); target: {mapping}"]
    lines += [f"note: {note}" for note in data.notes]
    lines.append(
        f"model {config.model.name}: {_parameter_count(session):,} parameters; gradient {config.gradient.name}; "
        f"loss {config.loss.name}; optimizer {config.optimizer.name}, lr {config.optimizer.lr:g}; "
        f"seed {config.trainer.seed}"
    )
    if config.fault.name != "none":
        lines.append(f"fault {config.fault.name}: {(type(config.fault).__doc__ or '').strip()}")
    effective = effective_precision(session.fabric, session.dtype)
    if effective.split("-")[0] != config.trainer.precision.split("-")[0]:
        lines.append(f"note: precision {config.trainer.precision} was asked for; this device computes in {effective}")
    if config.optimizer.name == "lbfgs" and session.batches.steps_per_epoch > config.trainer.accumulate:
        lines.append(
            "note: L-BFGS estimates curvature from one step to the next and needs the same samples in each; with parts"
            f" of them it may diverge. All at once: trainer.batch_size={session.batches.samples_per_epoch}"
        )
    if session.loop.progress.step:
        lines.append(f"resuming after step {session.loop.progress.step} (attempt {session.attempt})")
    return lines


def _parameter_count(session: Session) -> int:
    return sum(parameter.numel() for parameter in session.raw_model.parameters())

"""`gradkit.check.overfit`: can the model learn one batch by heart, and does every parameter take part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from gradkit.check.engine.batches import cast, twin_of
from gradkit.check.engine.errors import CheckInputError
from gradkit.check.engine.model_subject import LossFunction, loss_of
from gradkit.check.engine.random_state import random_state_kept
from gradkit.check.engine.result import CheckResult, Line, Verdict

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

STEPS = 200
TARGET = 0.1
LEARNING_RATE = 1e-2
"""Adam's default is 1e-3; on one batch ten times that is still stable for models of ordinary width."""


def overfit(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Any,
    *,
    steps: int = STEPS,
    target: float = TARGET,
    floor: float = 0.0,
    optimizer: OptimizerFactory | None = None,
    seed: int = 0,
) -> CheckResult:
    """Train a copy of the model on one batch and see whether it can learn it.

    Args:
        model: Any module, in the mode it trains in; the original stays as it is.
        loss_fn: Takes the model and the batch and returns the scalar loss.
        batch: One batch.
        steps: Optimizer steps at most; training stops when the target is reached.
        target: The check passes when `loss - floor` falls to this share of its first value.
        floor: The smallest loss possible, such as the entropy of soft labels.
        optimizer: Makes the optimizer from the trainable parameters; Adam at 1e-2 by default.
        seed: Of dropout and whatever else the training draws.

    Returns:
        One line on the loss, one on the parameters that never moved or never had a gradient, and one on frozen
        parameters that moved.

    Raises:
        CheckInputError: No trainable parameter, or a loss that is no scalar with a graph.
        ValueError: `steps` or `target` out of range.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps!r}.")
    if not 0 < target < 1:
        raise ValueError(f"target: expected a share between 0 and 1, got {target!r}.")
    title = f"overfitting one batch with {type(model).__name__}"
    with random_state_kept():
        torch.manual_seed(seed)
        twin = twin_of(model)
        trainable = {name: each for name, each in twin.named_parameters() if each.requires_grad}
        if not trainable:
            raise CheckInputError("the model has no trainable parameter; call requires_grad_() on those to be trained.")
        before = {name: each.detach().clone() for name, each in twin.named_parameters()}
        chosen = optimizer or (lambda parameters: torch.optim.Adam(parameters, lr=LEARNING_RATE))
        losses, unreached = _train(twin, loss_fn, batch, chosen(trainable.values()), trainable, steps, target, floor)
    lines = [_loss_line(losses, steps, target, floor)]
    still = [name for name, each in trainable.items() if torch.equal(each.detach(), before[name])]
    if unreached:
        lines.append(
            Line(
                "reached by gradients",
                "fail",
                {"parameters": len(unreached)},
                f"No gradient ever reached {_named(unreached)}.",
                "Look for a detach, a no_grad block or a branch that is not part of the loss.",
            )
        )
    idle = [name for name in still if name not in unreached]
    if idle:
        lines.append(
            Line(
                "moved by the optimizer",
                "fail",
                {"parameters": len(idle)},
                f"{_named(idle)} had gradients and never moved.",
                "Look for gradients of exactly zero (dead units), or parameters the optimizer was not given.",
            )
        )
    frozen = [
        name
        for name, each in twin.named_parameters()
        if not each.requires_grad and not torch.equal(each.detach(), before[name])
    ]
    if frozen:
        lines.append(
            Line(
                "frozen parameters",
                "fail",
                {"parameters": len(frozen)},
                f"{_named(frozen)} moved.",
                "Something writes to them outside of the optimizer.",
            )
        )
    settings = {"steps": len(losses) - 1, "target": target, "seed": seed}
    return CheckResult(title, lines, [], [], settings)


def _train(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Any,
    optimizer: torch.optim.Optimizer,
    trainable: dict[str, nn.Parameter],
    steps: int,
    target: float,
    floor: float,
) -> tuple[list[float], list[str]]:
    """The losses before each step and after the last, and the parameters no gradient reached."""
    losses: list[float] = []
    unreached = set(trainable)
    for step in range(steps + 1):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(loss_fn, model, cast(batch))
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            got = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise CheckInputError(f"loss_fn: expected a scalar tensor, got {got}.")
        if not loss.requires_grad:
            raise CheckInputError("loss_fn: the loss carries no graph, so nothing can be learned from it.")
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]) or losses[-1] - floor <= target * (losses[0] - floor) or step == steps:
            # One backward at least, so that parameters without a gradient are told from those never asked.
            if step == 0:
                loss.backward()
                unreached = {name for name in unreached if trainable[name].grad is None}
            break
        loss.backward()
        unreached = {name for name in unreached if trainable[name].grad is None}
        optimizer.step()
    return losses, sorted(unreached)


def _loss_line(losses: list[float], steps: int, target: float, floor: float) -> Line:
    first, last = losses[0] - floor, losses[-1] - floor
    share = last / first if first else 0.0
    measured = {"first_loss": losses[0], "last_loss": losses[-1], "steps": len(losses) - 1, "share": share}
    verdict: Verdict = "fail"
    if not math.isfinite(losses[-1]):
        reason, advice = f"The loss was {losses[-1]} after {len(losses) - 1} step(s).", "Lower the learning rate."
    elif share <= target:
        return Line("loss", "pass", measured)
    elif len(losses) > 20 and losses[-1] < 0.98 * losses[-len(losses) // 5]:
        verdict, reason = "inconclusive", f"The loss fell to {share:.0%} of its first value and was still falling."
        advice = f"Give it more steps than {steps}, or a higher learning rate."
    else:
        reason = (
            f"The loss stayed at {share:.0%} of its first value after {len(losses) - 1} steps; expected {target:.0%}."
        )
        advice = (
            "Check that inputs and targets belong together, that gradients reach the parameters and that they are"
            " cleared; give `floor` when the smallest possible loss is not 0."
        )
    return Line("loss", verdict, measured, reason, advice)


def _named(names: Iterable[str], limit: int = 5) -> str:
    everything = list(names)
    more = f" and {len(everything) - limit} more" if len(everything) > limit else ""
    return ", ".join(everything[:limit]) + more

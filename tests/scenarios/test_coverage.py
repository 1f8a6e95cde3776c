"""The folder as a whole: enough faulty programs for every rule, and a correct program for every promised look-alike."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.scenarios.harness import FOLDER, scenarios

ALL = scenarios()
BY_RULE = {
    code: sorted({s.path for s in ALL for found, _ in s.expected if found == code})
    for code in sorted({code for s in ALL for code, _ in s.expected})
}
FRAMEWORKS = ("lightning", "accelerate", "transformers")

# Correct programs that could be taken for a fault of gradients cleared or accumulated, each with where it is.
LOOK_ALIKES = {
    "cleared by None": "healthy_clearing_idioms:healthy_none",
    "cleared by zero_": "healthy_clearing_idioms:healthy_kept_as_zeros",
    "cleared by .grad.data.zero_": "healthy_clearing_idioms:healthy_data_zero",
    "cleared by _foreach_zero_": "healthy_clearing_idioms:healthy_foreach",
    "cleared by a new tensor": "healthy_clearing_idioms:healthy_new_tensor",
    "cleared by module.zero_grad": "healthy_clearing_idioms:healthy_by_the_module",
    "cleared by set_to_none=False of a module": "healthy_clearing_idioms:healthy_by_the_module_kept_as_zeros",
    "gradients of another network's loss (GAN)": "healthy_gan:healthy_gan_kept_as_zeros",
    "gradients of another network's loss (actor-critic)": "healthy_reinforcement:healthy_deterministic_actor_critic",
    "a closure that clears and computes (LBFGS)": "healthy_closures:healthy_lbfgs",
    "a closure that clears and computes (Lightning)": "healthy_lightning:healthy_automatic",
    "SAM's two backward calls": "healthy_sam:healthy_two_calls",
    "a step skipped for its loss": "healthy_mixed_precision:healthy_skipped_by_hand",
    "a step skipped by GradScaler": "healthy_mixed_precision:healthy_skipped_steps",
    "gradients for logging only": "healthy_accumulation:healthy_gradients_for_logging_only",
    "assigned from autograd.grad": "healthy_changed_on_purpose:healthy_assigned_from_autograd",
    "assigned from torch.func": "healthy_changed_on_purpose:healthy_from_torch_func",
    "two losses one after the other": "healthy_accumulation:healthy_two_losses_one_after_the_other",
    "WGAN-GP": "healthy_gan:healthy_wgan_gp",
    "MAML": "healthy_meta_learning:healthy_maml",
    "TBPTT": "healthy_recurrent:healthy_tbptt",
    "BYOL with EMA": "healthy_self_supervised:healthy_byol",
    "REINFORCE": "healthy_reinforcement:healthy_reinforce",
    "actor-critic": "healthy_reinforcement:healthy_actor_critic_shared_backward",
    "DQN with target network": "healthy_reinforcement:healthy_dqn",
    "mixture of experts": "healthy_partly_used:healthy_mixture_of_experts",
    "idle heads": "healthy_partly_used:healthy_idle_heads",
    "SWA": "healthy_self_supervised:healthy_swa",
    "LoRA": "healthy_partly_used:healthy_lora",
    "checkpointing, reentrant": "healthy_checkpointing:healthy_reentrant",
    "checkpointing, not reentrant": "healthy_checkpointing:healthy_not_reentrant",
    "accumulation with a tail": "healthy_accumulation:healthy_with_a_tail",
    "manual SGD": "healthy_by_hand:healthy_manual_sgd",
    "warmup from 0": "healthy_by_hand:healthy_warmup_from_zero",
    "best-weights restore": "healthy_self_supervised:healthy_best_weights_restored",
    "a new model per fold": "healthy_by_hand:healthy_new_model_per_fold",
    "Lightning with accumulate_grad_batches": "healthy_lightning:healthy_accumulating",
    "Lightning with manual optimization": "healthy_lightning:healthy_manual_with_a_tail",
    "an Accelerate loop": "healthy_accelerate:healthy_accumulating",
    "a Hugging Face Trainer": "healthy_transformers:healthy_accumulating_with_a_tail",
    "sparse embeddings": "healthy_optimizers:healthy_sparse_embedding",
    "fused and foreach optimizers": "healthy_optimizers:healthy_fused_and_foreach",
    "torch.compile": "healthy_optimizers:healthy_compiled_model",
    "weight tying": "healthy_partly_used:healthy_weight_tying",
    "several optimizers": "healthy_optimizers:healthy_several_optimizers_over_one_loss",
    "an optimizer in backward hooks": "healthy_optimizers:healthy_step_in_backward_hooks",
    "momentum by hand": "healthy_changed_on_purpose:healthy_momentum_by_hand",
}


def _is_class_based(path: Path) -> bool:
    """Whether a class of the file calls backward or step, or hands a loss to a framework, in one of its methods."""
    methods = [
        node
        for owner in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, ast.FunctionDef)
    ]
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("backward", "step")
        for method in methods
        for node in ast.walk(method)
    )


def _uses_framework(path: Path) -> bool:
    return any(f'"{name}"' in path.read_text(encoding="utf-8") for name in FRAMEWORKS)


@pytest.mark.parametrize("code", BY_RULE)
def test_every_rule_has_at_least_three_faulty_programs_written_differently(code: str) -> None:
    paths = BY_RULE[code]
    assert len(paths) >= 3, f"{code} has {len(paths)} of 3 files with a faulty program"
    assert any(_uses_framework(path) for path in paths), f"{code} has no faulty program within a framework"
    assert any(not _uses_framework(path) for path in paths), f"{code} has no faulty program without a framework"


@pytest.mark.parametrize("code", ["GK101", "GK102", "GK103"])
def test_the_rules_of_clearing_have_a_plain_and_a_class_based_program(code: str) -> None:
    own = [path for path in BY_RULE[code] if not _uses_framework(path)]
    assert any(_is_class_based(path) for path in own)
    assert any(not _is_class_based(path) for path in own)


@pytest.mark.parametrize("look", LOOK_ALIKES)
def test_every_look_alike_that_must_stay_silent_is_a_scenario(look: str) -> None:
    assert LOOK_ALIKES[look] in {scenario.id for scenario in ALL if scenario.healthy}


def test_every_file_that_looks_like_a_scenario_is_one() -> None:
    read = {scenario.path for scenario in ALL}
    helpers = {"harness.py", "conftest.py"}
    left = [
        path.name
        for path in FOLDER.glob("*.py")
        if path not in read and path.name not in helpers and not path.name.startswith("test_")
    ]
    assert left == []

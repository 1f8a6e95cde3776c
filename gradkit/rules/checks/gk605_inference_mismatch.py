"""A way to switch gradients off changed the outputs of the model, or left a graph.

Reports:    outputs in eval mode that differ from the tracked forward beyond rounding under `torch.no_grad()`,
            `torch.inference_mode()`, with detached or with frozen parameters; or outputs that still carry a graph.
Why:        what is deployed is then not what was evaluated; a graph that is left keeps the memory of every batch.
Quiet when: the outputs are equal bit for bit, or within the bound of rounding where another kernel was chosen.
Remedy:     Look for code that asks `torch.is_grad_enabled()` or `requires_grad`, and for outputs that are kept without
            `detach()`.
Source:     PyTorch documentation, "Autograd mechanics", locally disabling gradient computation.
"""

from __future__ import annotations

from gradkit.findings import Severity
from gradkit.rules._base import CheckRule


class InferenceMismatch(CheckRule, code="GK605", severity=Severity.ERROR, since="0.1"):
    """Reported by `gradkit.check.inference`."""

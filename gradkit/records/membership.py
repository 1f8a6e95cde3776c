"""Which parameters of a model got gradients, and which an optimizer holds."""

from __future__ import annotations

from dataclasses import dataclass

from gradkit.records.places import Location, ParameterInfo
from gradkit.records.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership(Record):
    """Parameters that got gradients though no optimizer holds them, against what the optimizers do hold.

    Written once such parameters were seen in as many windows as a rule asks for; all of them belong to one model, were
    bit-identical over those windows and are held by no optimizer alive in the process.

    Attributes:
        optimizer: Label of the optimizer they are compared with.
        step: Number of its step.
        windows: Windows in which they got gradients and an optimizer stepped without them.
        model: Class name of the model they belong to.
        outside: The parameters, in the model's order.
        outside_numbers: Numbers (elements) in them.
        held: Parameters of the same model that took part in the loss and are held by an optimizer.
        held_numbers: Numbers in those.
        foreign: Nothing that took part in the loss is held by any optimizer, and nothing that `optimizer` holds got a
            gradient.
        owned: Parameters `optimizer` holds.
        idle: Those it holds that do not belong to this model and got no gradient.
        sharded_since: They are sharded, and what `optimizer` holds is not.
        late: They began to take part after windows in which the rest of the model already did.
        container: The plain Python container, such as `layers`, through which alone the model reaches their modules.
        container_size: Modules in that container.
        upstream: They come before every held parameter of the model.
        evaluating: Their modules are in eval mode while modules of held parameters are in train mode.
        kept: Their gradients were added to window after window, and nobody cleared them.
        inputs_only: The optimizers hold no parameter of any module that took part: inputs are learned.
        created_line: The user's line that made the optimizer; None when it was made before gradkit watched.
        step_line: The user's line that stepped.
        backward_line: The user's line of the backward.
    """

    optimizer: str
    step: int
    windows: int
    model: str
    outside: tuple[ParameterInfo, ...]
    outside_numbers: int = 0
    held: int = 0
    held_numbers: int = 0
    foreign: bool = False
    owned: int = 0
    idle: tuple[ParameterInfo, ...] = ()
    sharded_since: bool = False
    late: bool = False
    container: str | None = None
    container_size: int = 0
    upstream: bool = False
    evaluating: bool = False
    kept: bool = False
    inputs_only: bool = False
    created_line: Location | None = None
    step_line: Location | None = None
    backward_line: Location | None = None

    @property
    def mostly_optimized(self) -> bool:
        """Whether at least half of the parameters that took part and more than half of their numbers are held."""
        return self.held >= len(self.outside) and self.held_numbers > self.outside_numbers

    @property
    def displaced(self) -> bool:
        """Whether something besides the missing parameters shows that they were meant to be optimized."""
        return bool(self.held and (self.idle or self.late)) or self.container_size > 1

    @property
    def trained_without(self) -> bool:
        """Whether the model is trained without them (GK401), not merely used (GK106) or mistaken (GK402)."""
        trained = self.displaced or (bool(self.held) and self.mostly_optimized)
        return trained and not self.foreign and not self.evaluating

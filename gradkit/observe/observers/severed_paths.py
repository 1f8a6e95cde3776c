"""Suspects parameters that never get a gradient though others do, and proves where the path was cut; writes CutPath.

Parameters without a gradient in the first steps are only a suspicion: a head that is not used looks the same. One
instrumented window follows their values; what the loss depends on is asked of the autograd graph. What is proven then
holds for those steps; that it held for the whole run is judged at its end (`gradkit.observe.books.held_cuts`).
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import Tensor, nn

from gradkit.errors import HygieneError
from gradkit.observe.attention import SEVERED_PATHS, TRIALS, Looks
from gradkit.observe.books.held_cuts import HeldCut
from gradkit.observe.books.outsiders import held_by
from gradkit.observe.observer import Observer
from gradkit.observe.program.living import living_roots
from gradkit.observe.program.sharded import whole_of
from gradkit.observe.program.sites import find_site, shown_name
from gradkit.observe.source.answers import none_place
from gradkit.observe.source.conditions import only_returns, stands_under_condition
from gradkit.observe.source.places import locate
from gradkit.observe.taps.mode import INSTRUMENT
from gradkit.observe.tensors import graph
from gradkit.observe.tensors.checksums import checksum
from gradkit.observe.tensors.known import Known, KnownSet
from gradkit.observe.tensors.measure import cosine, number_of
from gradkit.observe.witnesses.backward_answers import Answers
from gradkit.observe.witnesses.taint import Cut, Taint
from gradkit.records import CutPath, Location

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.program.sites import Site
    from gradkit.observe.watching import Watching

MIN_COMPARED = 16
"""Numbers a tensor must have to be told from a copy by its direction: the cosine of two independent directions of that
many dimensions stays below `COPY_COSINE` with probability 0.98."""
NEAR = 64
"""Graph nodes looked at to see whether a loss leads to any parameter: a head's own are a few nodes away."""
COPY_COSINE = 0.6
"""Cosine above which a tensor counts as a copy of another that was trained since."""


class SeveredPaths(Observer):
    """Counts steps without a gradient; then instruments."""

    kinds = (CutPath,)

    def __init__(self, monitor: Watching) -> None:
        super().__init__(monitor)
        self._needed = min(
            int(getattr(rule, "steps", SEVERED_PATHS.first)) for rule in monitor.rules if rule.kind is CutPath
        )
        self._missing: Known[Optimizer, Known[Tensor, int]] = Known()
        self._had: KnownSet[Tensor] = KnownSet()
        self._looks = Looks(SEVERED_PATHS, self._needed)
        self._trials = 0
        self._wait = 0
        self._taint: Taint | None = None
        self._answers: Answers | None = None
        self._applied: Known[Tensor, list[Site]] = Known()
        self._suspects: list[Tensor] = []
        self._followed: Known[Tensor, weakref.ref[Tensor]] = Known()
        self._proven: Known[Tensor, Cut] = Known()
        self._refuted: KnownSet[Tensor] = KnownSet()
        self._done: KnownSet[Tensor] = KnownSet()
        self._first: Known[Tensor, Tensor | None] = Known()
        self._held: list[HeldCut] = []
        self._backwards = 0
        self._rooted = 0
        self._windows: Known[Optimizer, tuple[int, int]] = Known()

    @property
    def attached(self) -> tuple[str, ...]:
        """The mode, while a window is instrumented; hooks on what is behind a proven cut."""
        mode = ("torch function mode",) if self._taint is not None else ()
        return (*mode, "gradient hooks") if any(held.attached for held in self._held) else mode

    def stop(self) -> None:
        """Take the mode off if training ended inside an instrumented window; report the cuts that held to the end."""
        self._leave()
        INSTRUMENT.settle()
        self._suspects.clear()
        records = [record for held in self._held if (record := held.settle()) is not None]
        self._held.clear()
        for record in records:
            with contextlib.suppress(HygieneError):  # too late to halt, and the other records must be judged
                self.monitor.put(record, source=record.optimizer)

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Count steps without a gradient from now on, of what was there before as well."""
        self._looks.begin()
        self._trials = self._wait = 0
        self.monitor.resume(self)

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Ask the graph which suspects the loss depends on, and the maps where the others were cut."""
        rooted = self._leads_to_a_parameter(roots)
        self._backwards += 1
        self._rooted += rooted
        if self._taint is None:
            return
        nodes = list(graph.walk(graph.roots_of(roots)))
        reached = KnownSet(leaf for node in nodes if (leaf := graph.leaf_of(node)) is not None)
        self._refuted.update(reached)
        if reached.holds_any(map(self._follows, self._suspects)):
            # In the graph and yet never with a gradient: a custom function's backward may have none for it.
            for parameter, sites in self._taint.through_functions(roots):
                self._applied.setdefault(parameter, []).extend(sites)
            if self._answers is not None and self._applied:
                self._answers.listen(nodes)
        for parameter, cut in self._taint.verdict(roots, reached).items():
            self._proven.setdefault(parameter, cut)
        if not rooted:
            # The loss is a tensor of its own, made of nothing that was seen.
            unrooted = Cut("backward", "loss", find_site())
            for parameter, bit in self._taint.bits.items():
                if self._taint.tracked & bit:
                    self._proven.setdefault(parameter, unrooted)

    def _leads_to_a_parameter(self, roots: Sequence[Tensor]) -> bool:
        """Whether a backward from `roots` can reach anything that is trained."""
        nodes = list(graph.walk(graph.roots_of(roots), NEAR))
        leaves = [leaf for node in nodes if (leaf := graph.leaf_of(node)) is not None]
        leaves += [root for root in roots if isinstance(root, Tensor) and root.grad_fn is None]
        if len(nodes) == NEAR or any(isinstance(leaf, nn.Parameter) for leaf in leaves):
            return True
        return held_by(self.monitor.optimizers()).holds_any(leaves)

    def after_step(self, optimizer: Optimizer) -> None:
        """Count, instrument or judge."""
        if self._taint is not None:
            self._leave()
            self._judge(optimizer)
            self._suspects = []
            return
        backwards, rooted = self._windows.get(optimizer, (0, 0))
        self._windows[optimizer] = (self._backwards, self._rooted)
        unrooted = self._backwards > backwards and self._rooted == rooted
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        missing = self._missing.setdefault(optimizer, Known())
        present = 0
        for parameter in parameters:
            if parameter.grad is not None:
                present += 1
                self._had.add(parameter)
                missing.pop(parameter, None)
            elif parameter.requires_grad and parameter not in self._had and parameter not in self._done:
                if parameter not in missing and _was_trained(optimizer, parameter):
                    self._had.add(parameter)
                    continue
                missing[parameter] = missing.get(parameter, 0) + 1
                if parameter not in self._first:  # what is trained while this observer sleeps will have moved
                    self._first[parameter] = checksum(parameter)
        if not (present or unrooted):
            for parameter in missing:  # a step without any gradient says nothing of single parameters
                missing[parameter] -= 1
        self._looks.count(optimizer)
        suspects = [p for p in parameters if missing.get(p, 0) >= self._needed]
        if suspects and (present or unrooted):
            self._suspect(optimizer, suspects)
        elif self._looks.is_over(any(any(book.values()) for book in self._missing.values())):
            self._rest()

    def _suspect(self, optimizer: Optimizer, suspects: Sequence[Tensor]) -> None:
        if self._wait > 0:
            self._wait -= 1
            return
        if self._trials >= TRIALS:
            self._rest()
            return
        self._trials += 1
        self._wait = 2**self._trials
        self._suspects = list(suspects)
        self._proven, self._refuted, self._applied = Known(), KnownSet(), Known()
        self._followed = Known((parameter, weakref.ref(whole_of(parameter))) for parameter in suspects)
        followed = [self._follows(parameter) for parameter in suspects]
        taint = Taint(self.monitor, followed)
        if INSTRUMENT.enter(taint):
            self._taint = taint  # first: what is attached is taken off even if attaching fails
            taint.patch()
            self._answers = Answers(self.monitor, followed)
        else:
            self._rest()

    def _follows(self, parameter: Tensor) -> Tensor:
        """The tensor whose values are followed for a suspect: what sharding puts in its place for a forward."""
        reference = self._followed.get(parameter)
        whole = None if reference is None else reference()
        return parameter if whole is None else whole

    def _leave(self) -> None:
        if self._taint is not None:
            self._taint.unpatch()
            INSTRUMENT.leave(self._taint)
            self._taint = None
        if self._answers is not None:
            self._answers.stop()

    def _rest(self) -> None:
        self._missing.clear()
        self._suspects.clear()
        self._trials = self._wait = 0
        self.monitor.pause(self, self._looks.rest())

    # --- judging ------------------------------------------------------------------------------------------------------

    def _judge(self, optimizer: Optimizer) -> None:
        """Hold each cut back once; suspects that were not proven are looked at again in a later window."""
        groups: dict[Location | None, list[tuple[_Proof, Tensor]]] = {}
        for parameter in self._suspects:
            if parameter.grad is None and parameter.requires_grad:
                followed = self._follows(parameter)
                proof = self._by_cut(followed) or self._by_answer(followed)
                if proof is not None:
                    groups.setdefault(proof.place, []).append((proof, parameter))
        for group in groups.values():
            proofs, parameters = zip(*group, strict=True)
            # What is copied now and then is a target; what else moves without a gradient is seen in the end.
            if not self._is_copy(parameters):
                self._hold(optimizer, proofs, parameters)

    def _by_cut(self, parameter: Tensor) -> _Proof | None:
        """The cut behind a suspect that no loss of the window depends on."""
        cut = self._proven.get(parameter)
        if cut is None or parameter in self._refuted:
            return None
        condition = locate(cut.disabled or cut.site, self.monitor.models)
        place = locate(cut.decorated, self.monitor.models) if cut.decorated else condition
        line = locate(cut.site, self.monitor.models)
        return _Proof(
            operation=cut.operation,
            cause=cut.cause,
            place=place,
            line=line if line != place else None,
            conditional=condition is None or stands_under_condition(condition) or _is_called_under_condition(cut),
        )

    def _by_answer(self, parameter: Tensor) -> _Proof | None:
        """The backward of a custom function that has no gradient for a suspect whose values reached the loss by it."""
        sites = self._applied.get(parameter, [])
        answers = self._answers.of(parameter) if self._answers is not None else ()
        if not sites or not answers:
            return None
        lines = [locate(site, self.monitor.models) for site in sites]
        places = [none_place(answer.backward, answer.argument, answer.arguments) for answer in answers]
        return _Proof(
            operation=f"{answers[0].function}.backward",
            cause="backward",
            place=places[0],
            line=lines[0],
            conditional=None in places or any(line is None or stands_under_condition(line) for line in lines),
        )

    def _is_copy(self, parameters: Sequence[Tensor]) -> bool:
        """Whether they are a copy of trained parameters, as a target network that is copied now and then."""
        largest = max(parameters, key=Tensor.numel)
        suspects = KnownSet(self._suspects)
        return any(
            other in self._had and other not in suspects and _is_alike(largest, other)
            for other in self.monitor.trained_parameters()
        )

    def _hold(self, optimizer: Optimizer, proofs: Sequence[_Proof], parameters: Sequence[Tensor]) -> None:
        label, step = self.monitor.place_of(optimizer)
        mine = held_by([optimizer])
        parameters = [parameter for parameter in parameters if parameter in mine]
        if not parameters:
            return
        self._done.update(parameters)
        missing = self._missing.setdefault(optimizer, Known())
        steps = max(missing.pop(parameter, 0) for parameter in parameters) + 1
        named = self.monitor.describe(optimizer, parameters)
        kept = [info for info in named if not any(fnmatchcase(info.name, pattern) for pattern in self.monitor.frozen)]
        if not kept:
            return
        first = proofs[0]
        record = CutPath(
            optimizer=label,
            step=step,
            steps=steps,
            parameters=tuple(info.name for info in kept),
            modules=tuple(dict.fromkeys(info.module for info in kept if info.module)),
            operation=first.operation,
            further=tuple(dict.fromkeys(p.operation for p in proofs if p.operation != first.operation)),
            cause=first.cause,
            whole_in_eval=first.cause in ("no_grad", "inference_mode") and _all_in_eval(parameters),
            conditional=any(proof.conditional for proof in proofs),
            location=first.place,
            operation_line=first.line,
        )
        before = [self._first.get(parameter) for parameter in parameters]
        self._held.append(HeldCut(self.monitor, optimizer, parameters, before, record))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proof:
    """Why a parameter had no gradient; those that were cut off at one place share a finding."""

    operation: str
    cause: str
    place: Location | None
    line: Location | None
    conditional: bool


def _is_called_under_condition(cut: Cut) -> bool:
    """Whether a function that does nothing but cut is called where a condition decides."""
    site = cut.disabled or cut.site
    call = cut.caller.location() if cut.caller is not None else None
    if call is None or site.code is None:
        return False
    only = only_returns(shown_name(site.code.co_filename), site.code.co_firstlineno, cut.operation)
    return only and stands_under_condition(call)


def _was_trained(optimizer: Optimizer, parameter: Tensor) -> bool:
    """Whether an optimizer has worked on a parameter before it was watched, by the state it keeps of it."""
    state = optimizer.state.get(parameter) or {}
    if "step" in state:  # some optimizers make the state of all parameters in advance
        return number_of(state["step"]) > 0
    return any(isinstance(value, Tensor) and value.shape == parameter.shape for value in state.values())


def _is_alike(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are so nearly parallel that one began as a copy of the other."""
    if first.shape != second.shape or first.numel() < MIN_COMPARED or first.device != second.device:
        return False
    return cosine(first, second) > COPY_COSINE


def _all_in_eval(parameters: Sequence[Tensor]) -> bool:
    """Whether every living module that owns one of the parameters is in eval mode."""
    wanted = KnownSet(parameters)
    owners: list[nn.Module] = [
        module for root in living_roots() for module in root.modules() if wanted.holds_any(module._parameters.values())
    ]
    return bool(owners) and not any(module.training for module in owners)

"""Reconciles what takes part in the loss with what optimizers hold, at first often and then now and then."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from gradkit.observe.attention import LONGEST_RECONCILING, MEMBERSHIP, SEARCHES, WALKS, Looks
from gradkit.observe.books.held_back import HeldBack
from gradkit.observe.books.outsiders import Outsider, Outsiders, held_by
from gradkit.observe.observer import Observer
from gradkit.observe.program.belonging import Model, home_of, models
from gradkit.observe.program.living import living_optimizers
from gradkit.observe.program.sharded import sharded_of
from gradkit.observe.program.sites import Site, find_site
from gradkit.observe.source.places import locate
from gradkit.observe.taps.containment import contained
from gradkit.observe.taps.tap import TAP
from gradkit.observe.tensors.buffers import Look, inner, is_wrapped
from gradkit.observe.tensors.graph import leaves
from gradkit.observe.tensors.known import Known, KnownSet, Numbers
from gradkit.records import Membership, ParameterInfo

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradkit.observe.watching import Watching


class MembershipObserver(Observer):
    """Writes `Membership` when parameters get gradients, window after window, that no optimizer holds and nobody moves.

    The graph of a backward says which leaves take part; a leaf that no watched optimizer holds makes the observer stay
    awake for as many windows as the rules ask for. Only then are the living modules and optimizers searched. That
    nobody will ever update the leaf is certain at the end; until then what was found is held back (`HeldBack`), unless
    the optimizer is seen to hold what the leaf replaced.
    """

    kinds = (Membership,)

    def __init__(self, monitor: Watching) -> None:
        super().__init__(monitor)
        wanted = [int(getattr(rule, "steps", 3)) for rule in monitor.rules if rule.kind is Membership]
        self._least, self._most = min(wanted, default=3), max(wanted, default=3)
        self._outsiders = Outsiders(monitor.reader)
        self._held_back = HeldBack(monitor.reader)
        self._present: list[tuple[Tensor, Outsider]] = []
        self._took_part: KnownSet[Tensor] = KnownSet()
        self._early: KnownSet[Tensor] = KnownSet()
        self._numbers = Numbers()
        self._walks = 0
        self._held: KnownSet[Tensor] | None = None
        self._idle: Known[Optimizer, tuple[int, list[Look]]] = Known()
        self._observed = 0
        self._looks = Looks(MEMBERSHIP)
        self._opening = True
        self._searches = 0
        self._backwards = 0
        self._awake = False
        self._stepped = False
        self._hook: Any = None
        self._site: Site | None = None

    @property
    def attached(self) -> tuple[str, ...]:
        """The hook through which optimizers are seen that hold nothing of the named models."""
        return () if self._hook is None else ("torch.optim global post-step hook",)

    def stop(self) -> None:
        """Let go of the hook, and say of what nobody updated that nobody did."""
        self._stop_listening()
        if self._held_back:
            for record, source in self._held_back.release(held_by(living_optimizers())):
                self.monitor.put(record, source=source)

    def _stop_listening(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _listen_to_strangers(self) -> None:
        """When models are named, an optimizer that holds nothing of them is watched by nobody else.

        The hook is there only while no optimizer is watched: called at every step, it would not be free.
        """
        if not self.monitor.models or self.monitor.optimizers():
            self._stop_listening()
        elif self._hook is None:
            self._hook = register_optimizer_step_post_hook(self._stranger_stepped)

    @contained
    def _stranger_stepped(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._awake or self.monitor.optimizers() or not TAP.thread.begin(trains=True):
            return
        try:
            self.after_step(optimizer)
        finally:
            TAP.thread.end()

    # --- events -------------------------------------------------------------------------------------------------

    def enter_backward(self, roots: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        """Find the leaves this backward reaches, and among them those no optimizer holds."""
        if self._walks >= WALKS:
            self._present = []
            self._backwards += 1
            if self._backwards > (MEMBERSHIP.longest if self._stepped else 8 * WALKS):
                self._rest()  # nothing steps: an attack, a saliency map
            return
        started = time.perf_counter()
        self._awake = True
        self._listen_to_strangers()
        self._walks += 1
        if self._held is None:
            self._held = held_by(self.monitor.optimizers())
        reached = sharded_of(leaves(roots))
        outside = [leaf for leaf in reached if leaf not in self._held]
        if self._opening and not self._looks.number:
            self._early.update(leaf for leaf in reached if leaf in self._held)
        unsuspicious = not self._outsiders.items
        self._present = self._outsiders.enter(outside, self._observed) if outside else []
        if unsuspicious and self._outsiders.items:
            # What took part before the first outsider came says nothing about the windows with it.
            self._took_part.clear()
            self._idle.clear()
        self._took_part.update(reached)
        if self._present:
            self._site = find_site()
        self._looks.spend(started)

    def leave_backward(self, failed: bool) -> None:
        """See where gradients arrived."""
        if self._present and not failed:
            self._outsiders.leave(self._present)
        self._present = []

    def after_step(self, optimizer: Optimizer) -> None:
        """A window is over."""
        started = time.perf_counter()
        self._stepped = True
        arrived = self._outsiders.end_window()
        if self._took_part:
            self._observed += 1
            self._looks.count(optimizer)
        if arrived:
            self._follow_idle(optimizer)
            ripe = self._outsiders.ripe(self._least)
            if ripe:
                self._judge(ripe, optimizer)
        self._held = None
        self._walks = self._backwards = 0
        self._looks.spend(started)
        pending = any(item.windows <= self._most for item in self._outsiders.items.values())
        if self._looks.is_over(pending, LONGEST_RECONCILING):
            self._rest()

    def begin_again(self, optimizer: Optimizer | None) -> None:
        """Look as at first; what takes part with a new optimizer does so from the beginning."""
        self._looks.begin()
        self._searches = 0
        self._opening = optimizer is not None
        if self._opening:
            self._observed = 0
            self._early.clear()
        self.monitor.resume(self)

    def _rest(self) -> None:
        """Sleep: each time twice as long, until looking takes no more than its share of the time."""
        self._walks = self._backwards = 0
        self._outsiders.forget()
        self._took_part.clear()
        self._idle.clear()
        self._awake = False
        self.monitor.pause(self, self._looks.rest(self.monitor.backwards))

    def _follow_idle(self, optimizer: Optimizer) -> None:
        """Count windows in which nothing this optimizer holds got a gradient."""
        parameters = _parameters(optimizer)
        now = list(map(Look, parameters))
        windows, before = self._idle.get(optimizer, (0, None))
        untouched = before == now or not any(parameter.grad is not None for parameter in parameters)
        if untouched and not self._took_part.holds_any(parameters):
            windows += 1
        elif before is not None or self._took_part.holds_any(parameters):
            windows = -(10**9)
        self._idle[optimizer] = (windows, now)

    # --- judging ------------------------------------------------------------------------------------------------

    def _judge(self, ripe: list[tuple[Tensor, Outsider]], optimizer: Optimizer) -> None:
        optimizers = living_optimizers()
        held = held_by(optimizers)
        for leaf, _ in ripe:
            if leaf in held:
                self._outsiders.explain(leaf)
        ripe = self._outsiders.resting([pair for pair in ripe if pair[0] not in held])
        if self._searches >= SEARCHES:
            for leaf, _ in ripe:
                self._outsiders.explain(leaf)
            return
        if not ripe:
            return
        self._searches += 1
        homes = models(self.monitor.models)
        grouped: Known[nn.Module, tuple[Model, list[tuple[Tensor, Outsider]]]] = Known()
        for leaf, item in ripe:
            home = home_of(leaf, homes, held)
            if home is None or self._declared_frozen(home.names[leaf]):
                self._outsiders.explain(leaf)
            else:
                grouped.setdefault(home.module, (home, []))[1].append((leaf, item))
        for home, pairs in grouped.values():
            self._write(home, pairs, optimizer, optimizers, held)
        if not grouped:
            self._write_plain(ripe, optimizer, held)

    def _declared_frozen(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.monitor.frozen)

    def _write(
        self,
        home: Model,
        pairs: list[tuple[Tensor, Outsider]],
        optimizer: Optimizer,
        optimizers: list[Optimizer],
        held: KnownSet[Tensor],
    ) -> None:
        pairs = sorted(pairs, key=lambda pair: home.places[pair[0]])
        outside = [leaf for leaf, _ in pairs]
        inside = KnownSet(
            parameter
            for item in optimizers
            for parameter in _parameters(item)
            if parameter in home.names and parameter in self._took_part
        )
        for watched in self.monitor.optimizers():
            if inside.holds_any(_parameters(watched)):
                optimizer = watched
                break
        foreign = self._is_foreign(optimizer, held)
        own = _parameters(optimizer)
        idle = [
            parameter
            for parameter in own
            if parameter not in home.names and parameter not in self._took_part and (foreign or parameter.grad is None)
        ]
        container, size = home.hidden_in(outside)
        held_here = list(inside)
        record = Membership(
            optimizer=self.monitor.label_of(optimizer),
            step=self._step_of(optimizer),
            windows=min(item.windows for _, item in pairs),
            model=type(home.module).__name__,
            outside=tuple(map(home.describe, outside)),
            outside_numbers=sum(leaf.numel() for leaf in outside),
            held=len(inside),
            held_numbers=sum(parameter.numel() for parameter in held_here),
            foreign=foreign,
            owned=len(own),
            idle=tuple(self.monitor.describe(optimizer, idle)) if idle else (),
            sharded_since=all(map(is_wrapped, outside)) and all(inner(parameter) is parameter for parameter in idle),
            late=min(item.since for _, item in pairs) >= MEMBERSHIP.first - 1 and self._were_there(inside),
            container=container,
            container_size=size,
            upstream=home.upstream(outside, held_here),
            evaluating=home.trains_only(held_here, outside),
            kept=self._outsiders.kept(pairs),
            inputs_only=held.holds_any(self._took_part) and not inside and not self._trains_modules(held),
            created_line=self.monitor.creation_line(optimizer),
            step_line=locate(find_site(), self.monitor.models),
            backward_line=locate(self._site, self.monitor.models),
        )
        source = self._numbers.of(home.module)
        if foreign or (held_here and _are_replaced(idle, outside)):
            self.monitor.put(record, source=source)
        else:
            self._held_back.keep(record, source, [(leaf, item.first, home.owners[leaf]) for leaf, item in pairs])
        for leaf, item in pairs:
            if item.windows >= self._most:
                self._outsiders.explain(leaf)

    def _were_there(self, inside: KnownSet[Tensor]) -> bool:
        """Whether some of these parameters took part from the beginning."""
        return self._early.holds_any(inside)

    def _trains_modules(self, held: KnownSet[Tensor]) -> bool:
        """Whether anything that took part and is held belongs to a living module."""
        trained = [parameter for parameter in self._took_part if parameter in held]
        return any(parameter in home.names for home in models() for parameter in trained)

    def _is_foreign(self, optimizer: Optimizer, held: KnownSet[Tensor]) -> bool:
        """Whether nothing that took part is held by anyone, and nothing this optimizer holds got a gradient."""
        windows, _ = self._idle.get(optimizer, (0, []))
        # Gradients left over from another time were first compared at the second step.
        return not held.holds_any(self._took_part) and windows >= max(1, self._least - 1)

    def _step_of(self, optimizer: Optimizer) -> int:
        steps = self.monitor.steps_of(optimizer)
        return max(0, (self._observed if steps is None else steps) - 1)

    def _write_plain(self, pairs: list[tuple[Tensor, Outsider]], optimizer: Optimizer, held: KnownSet[Tensor]) -> None:
        """Tensors of no module: with the very shapes of what the optimizer holds they cannot be meant as inputs."""
        own = _parameters(optimizer)
        outside = [leaf for leaf, _ in pairs]
        if self._is_foreign(optimizer, held) and sorted(map(_shape, own)) == sorted(map(_shape, outside)):
            self.monitor.put(
                Membership(
                    optimizer=self.monitor.label_of(optimizer),
                    step=self._step_of(optimizer),
                    windows=min(item.windows for _, item in pairs),
                    model="plain tensors",
                    outside=tuple(ParameterInfo(f"a tensor of shape {_shape(leaf)}", _shape(leaf)) for leaf in outside),
                    outside_numbers=sum(leaf.numel() for leaf in outside),
                    foreign=True,
                    owned=len(own),
                    idle=tuple(self.monitor.describe(optimizer, own)),
                    created_line=self.monitor.creation_line(optimizer),
                    step_line=locate(find_site(), self.monitor.models),
                    backward_line=locate(self._site, self.monitor.models),
                )
            )


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _are_replaced(idle: Sequence[Tensor], outside: Sequence[Tensor]) -> bool:
    """Whether the optimizer still holds what `outside` replaced: as many of the same kinds, of no module alive."""
    if len(idle) != len(outside) or any(old.dim() != new.dim() for old, new in zip(idle, outside, strict=True)):
        return False
    homes = models()
    return not any(parameter in home.names for home in homes for parameter in idle)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)

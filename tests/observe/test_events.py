"""Events are declared once; a method that nobody would call is refused when the class is made."""

import pytest

from gradkit.observe.observer import Observer
from gradkit.observe.roster import all_observers
from gradkit.observe.taps.events import EVENTS, TOLD_BY_MONITOR


def test_a_method_that_is_no_event_is_refused():
    with pytest.raises(TypeError, match=r"^Mistyped\.entered_backward is no event that gradkit\.observe\.taps\.events"):

        class Mistyped(Observer):
            def entered_backward(self, roots):
                """Never called."""


def test_an_event_and_a_private_helper_are_accepted():
    class Fine(Observer):
        kinds = ()

        def loader_started(self, loader):
            self._note(loader)

        def _note(self, loader):
            """Its own."""

    assert "loader_started" in EVENTS


def test_what_a_monitor_tells_is_declared_and_every_other_event_has_a_listener():
    assert set(TOLD_BY_MONITOR) <= EVENTS
    heard = {name for observer in all_observers() for name in vars(observer)}
    assert EVENTS - heard <= {"optimizer_created"}

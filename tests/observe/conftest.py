"""Fails any test here that leaves something attached to torch."""

from tests.observe.leaks import no_leaks

__all__ = ["no_leaks"]

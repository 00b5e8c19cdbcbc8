"""Fixtures of the tests with programs of others."""

from tests.support.leftovers import run_parent

__all__ = ["run_parent"]

"""Fixtures of the tests with real processes."""

from tests.support.leftovers import run_parent

__all__ = ["run_parent"]

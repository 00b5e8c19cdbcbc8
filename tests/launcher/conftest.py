"""Fixtures of the launcher's tests."""

from tests.support.leftovers import run_parent

__all__ = ["run_parent"]

"""Fixtures of the tests with programs of others."""

import pytest

from launcher.linux_guest import check_installed
from testbed.errors import MachineError
from tests.support.leftovers import run_parent
from tests.support.peers import CI

__all__ = ["run_parent"]


@pytest.fixture
def linux_kernel() -> None:
    """Have a kernel for Linux guests: without one skip the test, in CI fail it."""
    try:
        check_installed()
    except MachineError as error:
        if CI:
            pytest.fail(str(error))
        pytest.skip(str(error))

"""The machine that every test of the model drives."""

from collections.abc import Iterator

import pytest

from tests.support.e1000_machine import E1000Machine


@pytest.fixture
def machine() -> Iterator[E1000Machine]:
    """A device that is up and linked, with nothing set up yet; afterwards its memory's guards are checked."""
    machine = E1000Machine()
    yield machine
    machine.close()

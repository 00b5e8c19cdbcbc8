"""Waiting for what nobody announces."""

import pytest

from testbed.errors import StopRequested
from testbed.messages.patience import awaited


def test_first_thing_that_comes_is_returned() -> None:
    coming = iter((None, None, 7, 8))
    assert awaited(lambda: next(coming), 60) == 7


def test_zero_is_something_and_false_is_nothing() -> None:
    coming = iter((False, 0, 1))
    assert awaited(lambda: next(coming), 60) == 0


def test_what_a_pause_raises_ends_the_waiting() -> None:
    def pause(_seconds: float) -> None:
        raise StopRequested

    with pytest.raises(StopRequested):
        awaited(lambda: None, 60, pause)


def test_nothing_comes_in_time() -> None:
    looks = []
    assert awaited(lambda: looks.append(1), 0) is None
    assert looks

"""Signals by eventfds that a peer shares: whatever it does to them, nobody who signals waits."""

import os

import pytest

from testbed.errors import GuestError
from testbed.messages.descriptors import EventSignal

FULL = (1 << 64) - 2
"""eventfd(2): the most that a counter holds; a write that would exceed it blocks where the file does."""


def test_a_peer_that_fills_a_blocking_counter_keeps_nobody_waiting() -> None:
    peer = os.eventfd(0, os.EFD_NONBLOCK)
    signal = EventSignal(os.dup(peer))
    os.eventfd_write(peer, FULL)
    os.set_blocking(peer, True)
    signal.pulse()
    assert os.eventfd_read(peer) == FULL
    signal.pulse()
    assert os.eventfd_read(peer) == 1
    signal.close()
    os.close(peer)


def test_what_is_no_eventfd_is_refused_and_closed() -> None:
    reading, writing = os.pipe()
    with pytest.raises(GuestError, match="no eventfd"):
        EventSignal(writing)
    with pytest.raises(OSError):  # noqa: PT011 - it is closed
        os.close(writing)
    os.close(reading)

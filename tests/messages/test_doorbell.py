"""Doorbells: a message only for a sleeper, one for each arming, and none lost where it matters."""

import pytest

from testbed.messages.doorbell import Doorbell, Inbox, control_endpoint, inbox_endpoint
from testbed.native import Bell, Pinned, SharedWords
from testbed.spec.vcpu_page import BELL
from tests.messages.conftest import ARRIVES_MS, Wire


class Ends:
    """A bell's page, its producer, and its consumer's flag."""

    def __init__(self, wire: Wire, endpoint: str = "") -> None:
        self._words = SharedWords(page := Pinned(bytearray(BELL.size)))
        self.bell = Bell(page)
        self.doorbell = Doorbell(self.bell, wire.context, endpoint or wire.endpoint)

    def arm(self) -> None:
        self._words.store32(BELL.offset("armed"), 1)

    def spoil(self) -> None:
        """Do what a hostile guest does to the words that it shares."""
        self._words.store64(BELL.offset("rung"), (1 << 64) - 1)
        self._words.store64(BELL.offset("sent"), (1 << 64) - 1)


@pytest.fixture
def ends(wire: Wire) -> Ends:
    ends = Ends(wire)
    wire.at_close.append(ends.doorbell.close)
    return ends


def test_doorbell_of_one_who_is_awake_sends_nothing(ends: Ends, wire: Wire) -> None:
    for _ in range(3):
        ends.doorbell.ring()
    assert (ends.doorbell.asked, ends.doorbell.sent, ends.bell.rung) == (3, 0, 3)
    assert wire.inbox.drain() == 0


def test_doorbell_of_a_sleeper_sends_one_message_for_any_rings(ends: Ends, wire: Wire) -> None:
    ends.arm()
    for _ in range(3):
        ends.doorbell.ring()
    assert (ends.doorbell.asked, ends.doorbell.sent, ends.bell.armed) == (3, 1, False)
    assert wire.inbox.socket.poll(ARRIVES_MS)
    assert wire.inbox.drain() == 1


def test_doorbell_of_one_who_does_not_listen_never_blocks(wire: Wire) -> None:
    ends = Ends(wire, wire.endpoint + ".nobody")
    for _ in range(500):
        ends.arm()
        ends.doorbell.ring()
    ends.doorbell.close()
    assert ends.doorbell.sent == 500


def test_doorbell_s_counts_are_nobody_else_s_to_write(ends: Ends) -> None:
    ends.spoil()
    ends.doorbell.ring()
    assert (ends.doorbell.asked, ends.doorbell.sent) == (1, 0)


def test_inbox_takes_so_many_messages_at_once_that_a_flood_does_not_hold_it(wire: Wire) -> None:
    inbox = Inbox(wire.context, "inproc://flooded")
    ends = Ends(wire, "inproc://flooded")
    for _ in range(100):
        ends.arm()
        ends.doorbell.ring()
    taken = [inbox.drain(), inbox.drain(), inbox.drain()]
    ends.doorbell.close()
    inbox.close()
    assert taken == [64, 36, 0]


def test_endpoints_are_in_the_run_directory() -> None:
    assert inbox_endpoint("/run/x", "vmm-h0") == "ipc:///run/x/vmm-h0.bell"
    assert control_endpoint("/run/x") == "ipc:///run/x/control"

"""The model under the accesses that a real driver was recorded to make: probe, link, ping, resets, removal.

Where the recorded device departs from Intel's manual the model follows the manual; each such value is named
below.
"""

from pathlib import Path

import pytest

from testbed.spec.e1000 import mask
from tests.support.e1000_machine import E1000Machine
from tests.support.e1000_trace import Difference, TracePlayer

TRACE = Path(__file__).parent / "recorded" / "linux_82540em.trace"

DEPARTURES = {
    Difference("STATUS", 0x80080783, 0x383): "§13.4.2: bits 10 and 31:16 are reserved and read as zero",
    Difference("STATUS", 0x80080781, 0x381): "§13.4.2: the same",
    Difference("EECD", 0x188, 0x118): "§13.4.3: FWE is 01b after a reset, EE_GNT follows EE_REQ",
    Difference("LEDCTL", 0x602, 0x7068302): "§13.4.15: initial value",
    Difference("PHY 16", 0x0360, 0x0068): "§13.4.7.1.13: energy detect is off after a reset",
    Difference("PHY 4", 0x0DE1, 0x01E1): "§13.4.7.1.5: PAUSE is not advertised after a reset",
    Difference("PHY 9", 0x0E00, 0x1E00): "§13.4.7.1.10: bit 12 is set after a reset",
    Difference("TCTL", 0x8, 0x0): "§14.7: CTRL.RST resets it",
    Difference("TXDCTL", 0x1010000, 0x0): "§14.7: CTRL.RST resets it",
    Difference("CTRL", 0x48140240, 0x00140240): "§14.7: CTRL.RST resets it",
    Difference(
        "ICR", 0x12, 0x10
    ): "§3.4.3: TXQE is set when descriptors have been processed, not by enabling",
}


@pytest.fixture(scope="module")
def player() -> TracePlayer:
    machine = E1000Machine(autoneg_ns=500_000_000)
    machine.advance(1_000_000_000)
    player = TracePlayer(machine)
    player.play(TRACE)
    return player


def test_every_value_read_is_the_recorded_one(player: TracePlayer) -> None:
    assert [d for d in player.differences if d not in DEPARTURES] == []


def test_every_departure_is_met(player: TracePlayer) -> None:
    assert set(player.differences) == set(DEPARTURES)


def test_enough_was_compared_and_sent(player: TracePlayer) -> None:
    assert (player.reads > 400, player.sent > 10) == (True, True)


def test_a_stock_driver_touches_nothing_unknown_and_nothing_read_only(player: TracePlayer) -> None:
    counts = player.machine.device.registers.counts
    assert (counts.unknown, counts.read_only, counts.partial) == (0, 0, 0)


def test_nothing_is_reported_and_nobody_wrote_outside(player: TracePlayer) -> None:
    player.machine.close()
    assert (player.machine.reports, player.machine.counts().get("fault.address")) == ([], None)


def test_the_link_is_up_before_the_removal_and_interrupts_are_masked_after(player: TracePlayer) -> None:
    assert (player.machine.line.asserted, player.machine.rd("RCTL") & mask("RCTL", "EN")) == (False, 0)

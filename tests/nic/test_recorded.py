"""The control side under the accesses that Linux's igb and igbvf were recorded to make: probe, link up, two
VFs, their mailboxes, and `ip link set vf`.

Where the recorded device departs from Intel's datasheet, or the recording leaves something out, the value is
named below.
"""

from pathlib import Path

import pytest

from testbed.nic.switch_state import VlanInsertion
from tests.support.igb_trace import Difference, IgbTrace
from tests.support.nic_machine import NicMachine

TRACE = Path(__file__).parent / "recorded" / "linux_82576.trace"
PHASES = (
    "probe_igb", "link_up", "pf_promisc", "vf_create", "probe_igbvf", "vf_link_up", "pf_set_vf_mac",
    "pf_set_vf_vlan", "pf_set_vf_spoofchk", "pf_set_vf_rate",
)  # fmt: skip

DEPARTURES = {
    Difference("PF", "EECD[0]", 0x1110, 0x1310): "§8.4.1: AUTO_RD says that the EEPROM was read",
    Difference("PF", "EEMNGCTL[0]", 0x80000000, 0x80040000): "§8.4: configuration of port 0 is done",
    Difference("PF", "EERD", 0x10E, 0xFFFF010E): "a word that means nothing here is erased",
    Difference("PF", "EERD", 0x10400022, 0xFFFF0022): "the same",
    Difference("PF", "GCR[0]", 0x6850200, 0x6840200): "§8.6: a written completion timeout stays",
    Difference("PF", "SYSTIML[0]", 0xF8100000, 0): "no time stamping",
    Difference("PF", "SYSTIMH[0]", 0x2AF6AC, 0): "no time stamping",
    Difference("PF", "SYSTIML[0]", 0x92480000, 0): "no time stamping",
    Difference("PF", "SYSTIMH[0]", 0xEFA6E7, 0): "no time stamping",
    Difference("PF", "CTRL[0]", 0x18100249, 0x100249): "flow control was configured between the phases",
    Difference("PF", "PHY 0", 0x1940, 0x1140): "§8.2.1: CTRL.PHY_RST resets the PHY",
    Difference("PF", "PHY 18", 0x1000, 0): "§8.2.1: the same",
    Difference("PF", "PHY 9", 0xE00, 0xF00): "§8.2.1: the same",
    Difference("PF", "ICR[0]", 0x80000004, 0): "the link did not change then, and there is no INTx",
    Difference("PF", "EIAM[0]", 0xFFFFFFF8, 0x7): "§8.8: there are 25 vectors, and phases in between",
    Difference("PF", "ICR[0]", 0x101, 0x100): "nothing is sent here",
    Difference("PF", "VLVF[0]", 0x80004000, 0): "the rounds in between are not in the recording",
    Difference("VF0", "RXDCTL[0]", 0, 0x10000): "§4.2.2.4: a reset of a VF resets its queues",
    Difference("PF", "VMOLR[1]", 0x8B0105F2, 0x89002600): "phases in between were not played",
}


@pytest.fixture(scope="module")
def player() -> IgbTrace:
    machine = NicMachine()
    machine.nic.set_wire(False)
    player = IgbTrace(machine)
    player.play(TRACE, *PHASES)
    return player


def test_every_value_read_is_the_recorded_one(player: IgbTrace) -> None:
    assert [d for d in player.differences if d not in DEPARTURES] == []


def test_every_departure_is_met(player: IgbTrace) -> None:
    assert set(player.differences) == set(DEPARTURES)


def test_enough_was_compared(player: IgbTrace) -> None:
    assert player.reads > 1700


def test_stock_drivers_touch_nothing_unknown_and_nothing_read_only(player: IgbTrace) -> None:
    nic = player.machine.nic
    counts = [nic.registers.counts, *(window.registers.counts for window in nic.windows)]
    assert [(c.unknown, c.read_only, c.partial) for c in counts] == [(0, 0, 0)] * 9


def test_what_ip_link_set_vf_asked_for_is_what_the_switch_works_by(player: IgbTrace) -> None:
    state = player.machine.nic.state
    assert (bytes.fromhex("02aabbccdd01"), 0b10) in [(u.mac, u.pools) for u in state.unicast]
    assert (state.pools[1].insertion, state.pools[1].port_vlan) == (VlanInsertion.ALWAYS, 7)
    assert [pool.check_source_mac for pool in state.pools[:2]] == [True, False]
    assert state.rates_bits_per_second[1] == 100_000_000
    assert (state.default_pool, state.replicate, state.pooled, state.link_up) == (2, True, True, True)

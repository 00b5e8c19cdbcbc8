"""Registers into `SwitchState`: where each filter and pool register must arrive, when one is made anew."""

import pytest

from testbed.memory.register_file import RegisterFile
from testbed.nic.filters import Filters, rate_bits_per_second
from testbed.nic.switch_state import QueueMode, UnicastFilter, VlanFilter, VlanInsertion
from testbed.spec import igb
from testbed.spec.igb import REGISTERS, field, mask


class Rig:
    """A register file with `Filters` on it."""

    def __init__(self) -> None:
        self.registers = RegisterFile(REGISTERS)
        self.changes = 0
        self.filters = Filters(self.registers, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def wr(self, name: str, value: int, index: int = 0) -> None:
        self.registers.write(REGISTERS[name].at(index), 4, value)


def test_after_reset_nothing_is_received_and_everything_is_one_queue() -> None:
    state = Rig().filters.state
    assert (state.receive, state.transmit, state.link_up, state.pooled) == (False, False, False, False)
    assert (state.unicast, state.vlans, state.mirrors, state.default_pool) == ((), (), (), 0)
    assert state.rates_bits_per_second == (None,) * 16


def test_a_state_is_made_once_until_something_is_written() -> None:
    rig = Rig()
    first = rig.filters.state
    assert rig.filters.state is first
    rig.wr("RCTL", mask("RCTL", "EN"))
    rig.wr("RCTL", mask("RCTL", "EN", "UPE"))
    assert rig.changes == 1
    assert (rig.filters.state.receive, rig.filters.state.unicast_promiscuous) == (True, True)


def test_a_link_that_stays_changes_nothing() -> None:
    rig = Rig()
    assert rig.filters.state.link_up is False
    rig.filters.set_link(False)
    assert rig.changes == 0
    rig.filters.set_link(True)
    assert (rig.changes, rig.filters.state.link_up) == (1, True)


@pytest.mark.parametrize(("pair", "index"), [(("RAL", "RAH"), 15), (("RAL2", "RAH2"), 7)])
def test_receive_addresses_of_both_halves_name_their_pools(pair: tuple[str, str], index: int) -> None:
    rig = Rig()
    rig.wr(pair[0], 0x3322_1102, index)
    rig.wr(pair[1], mask("RAH", "AV") | field("RAH", "POOLSEL").put(0b101) | 0x5544, index)
    assert rig.filters.state.unicast == (UnicastFilter(bytes.fromhex("021122334455"), 0b101),)


def test_an_address_that_is_not_valid_is_none() -> None:
    rig = Rig()
    rig.wr("RAH", 0x5544)
    assert rig.filters.state.unicast == ()


def test_pool_offload_as_linux_sets_it_for_a_vf() -> None:
    rig = Rig()
    rig.wr("VMOLR", 0x8B01_05F2, 1)
    pool = rig.filters.state.pools[1]
    assert (pool.accept_untagged, pool.accept_broadcast, pool.accept_multicast_hash) == (True, True, True)
    assert (pool.accept_unicast_hash, pool.accept_multicast, pool.strip_vlan) == (False, False, False)
    assert (pool.frame_max_bytes, pool.queues) == (0x5F2, (1, 9))


def test_a_pool_without_long_packets_takes_1518_bytes() -> None:
    assert Rig().filters.state.pools[0].frame_max_bytes == 1518


def test_switch_control_as_linux_sets_it_for_two_vfs_and_the_pf() -> None:
    rig = Rig()
    rig.wr("DTXSWC", 0x8000_FBFB)
    state = rig.filters.state
    assert state.loopback
    assert [p.check_source_mac for p in state.pools] == [True, True, False, *[True] * 5]
    assert [p.check_source_vlan for p in state.pools] == [True, True, False, *[True] * 5]


@pytest.mark.parametrize(
    ("value", "insertion", "tag"),
    [
        (0x4000_0007, VlanInsertion.ALWAYS, 7),
        (0x8000_0000, VlanInsertion.NEVER, 0),
        (0xC000_0001, VlanInsertion.BY_DESCRIPTOR, 1),
        (0, VlanInsertion.BY_DESCRIPTOR, 0),
    ],
)
def test_vlan_insertion(value: int, insertion: VlanInsertion, tag: int) -> None:
    rig = Rig()
    rig.wr("VMVIR", value, 3)
    pool = rig.filters.state.pools[3]
    assert (pool.insertion, pool.port_vlan) == (insertion, tag)


def test_vlan_filters_are_those_that_are_enabled() -> None:
    rig = Rig()
    rig.wr("VLVF", 0x8000_5064, 4)
    rig.wr("VLVF", 0x0000_5065, 5)
    assert rig.filters.state.vlans == (VlanFilter(100, 0b101, False, 4),)


def test_a_mirror_rule_has_the_pools_and_vlans_whose_conditions_are_on() -> None:
    rig = Rig()
    rig.wr("VLVF", mask("VLVF", "VI_EN") | 7, 9)
    rig.wr("VMRVLAN", 1 << 9, 2)
    rig.wr("VMRVM", 0b11, 2)
    rig.wr("VMRCTL", mask("VMRCTL", "VLME", "UPME") | field("VMRCTL", "MP").put(6), 2)
    (rule,) = rig.filters.state.mirrors
    assert (rule.destination, rule.pools, rule.vlans, rule.uplink, rule.downlink) == (6, 0, (7,), True, False)


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        (0, QueueMode.SINGLE),
        (2, QueueMode.RSS),
        (3, QueueMode.POOLS),
        (5, QueueMode.POOLS_RSS),
        (7, QueueMode.SINGLE),
    ],
)
def test_queue_mode_and_reserved_values(value: int, mode: QueueMode) -> None:
    rig = Rig()
    rig.wr("MRQC", value)
    assert (rig.filters.state.mode, rig.filters.state.pooled) == (mode, value in (3, 5))


def test_rss_has_key_table_and_the_hashes_that_are_on() -> None:
    rig = Rig()
    for index in range(10):
        rig.wr("RSSRK", 0x0302_0100 + 0x0404_0404 * index, index)
    rig.wr("RETA", 0x0001_0100, 31)
    rig.wr("MRQC", 0x0037_0002)
    rss = rig.filters.state.rss
    assert (rss.key, rss.table[-4:]) == (bytes(range(40)), bytes([0, 1, 1, 0]))
    assert (rss.ipv4, rss.tcp_ipv4, rss.tcp_ipv6, rss.ipv6, rss.udp_ipv4) == (True, True, True, True, False)


def test_default_pool_can_be_taken_away() -> None:
    rig = Rig()
    rig.wr("VT_CTL", 0x4000_0100)
    assert (rig.filters.state.default_pool, rig.filters.state.replicate) == (2, True)
    rig.wr("VT_CTL", 0x6000_0100)
    assert rig.filters.state.default_pool is None


def test_tables_are_bits_in_ascending_order() -> None:
    rig = Rig()
    rig.wr("MTA", 0x10000)
    rig.wr("VFTA", 1 << (100 % 32), 100 // 32)
    state = rig.filters.state
    assert (state.multicast_table[2], state.vlan_table[100 // 8]) == (1, 1 << 100 % 8)


def test_rate_is_the_links_divided_as_linux_asks_for_100_megabit() -> None:
    # RF = 10 at 1 Gb/s; the recorded value 0x80028000 is RF_INT 10, RF_DEC 0.
    assert rate_bits_per_second(0x8002_8000) == 100_000_000
    assert (rate_bits_per_second(0x0002_8000), rate_bits_per_second(0x8000_0000)) == (None, None)


def test_a_rate_goes_to_the_selected_queue() -> None:
    rig = Rig()
    rig.wr("RTTDQSEL", 9)
    rig.wr("RTTBCNRC", 0x8002_8000)
    rates = rig.filters.state.rates_bits_per_second
    assert [n for n, rate in enumerate(rates) if rate is not None] == [9]
    rig.filters.reset()
    assert rig.filters.state.rates_bits_per_second == (None,) * igb.QUEUES

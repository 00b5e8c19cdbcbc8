"""The physical function's driver against the 82576's control side, in one process: bring-up, virtual
functions, settings, mailbox, hostile virtual functions.
"""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import ConfigError, DeviceError
from testbed.nic.switch_state import QueueMode, UnicastFilter, VlanInsertion
from testbed.pci.access import RegisterBus
from testbed.spec import igb_mailbox as mbx
from testbed.spec import igb_vf
from testbed.spec.igb import mask
from testbed.vmm.pf_driver import MISBEHAVIOUR_NS, PfDriver
from testbed.vmm.pf_functions import VfSettings
from testbed.vmm.pf_mailbox import BURST_MESSAGES, WINDOW_NS
from tests.support.nic_machine import MAC
from tests.support.pf_machine import ACK, REQ, VF_MACS, VFU, PfMachine, mac_words

ADD = mbx.INFO.put(1)


def machine(*more: VfSettings) -> PfMachine:
    """Two virtual functions with addresses, and others as given."""
    return PfMachine(VfSettings(mac=VF_MACS[0]), VfSettings(mac=VF_MACS[1]), *more)


def pools(pf: PfMachine, mac: bytes) -> int:
    """Return the pools that an address is named for."""
    return sum(u.pools for u in pf.nic.state.unicast if u.mac == mac)


# bring-up


def test_the_device_comes_up_with_pools_the_pf_behind_its_vfs() -> None:
    pf = machine()
    state = pf.nic.state
    assert (pf.nic.sriov.vfs, pf.driver.pool, pf.driver.mac, pf.links) == (2, 2, MAC, [True])
    assert (state.mode, state.default_pool, state.loopback, state.replicate) == (
        QueueMode.POOLS,
        2,
        True,
        True,
    )
    assert (state.receive, state.transmit, state.link_up) == (True, True, True)
    assert [pool.receive for pool in state.pools[:3]] == [False, False, True]
    assert state.unicast == (
        UnicastFilter(MAC, 0b100),
        UnicastFilter(VF_MACS[1], 2),
        UnicastFilter(VF_MACS[0], 1),
    )


def test_the_drivers_accesses_are_those_of_a_correct_one() -> None:
    counts = machine().nic.registers.counts
    assert (counts.unknown, counts.read_only, counts.partial) == (0, 0, 0)


def test_the_uplink_takes_what_no_vf_is_named_for() -> None:
    state = machine().nic.state
    uplink = state.pools[2]
    assert (uplink.accept_untagged, uplink.accept_broadcast, uplink.accept_multicast) == (True, True, True)
    assert (uplink.accept_unicast_hash, uplink.check_source_mac, state.unicast_promiscuous) == (
        True,
        False,
        True,
    )
    assert set(state.unicast_table) == {0}


def test_a_driver_that_was_stopped_leaves_no_vf() -> None:
    pf = machine()
    pf.driver.stop()
    assert (pf.nic.sriov.vfs, pf.nic.state.receive, pf.nic.state.pooled) == (0, False, False)


def test_more_vfs_than_leave_the_pf_a_pool_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 7 VFs"):
        PfMachine(*[VfSettings()] * 8)


def test_a_device_that_does_not_answer_is_an_error() -> None:
    class Gone:
        def read32(self, _offset: int) -> int:
            return 0xFFFF_FFFF

        def write32(self, _offset: int, _value: int) -> None: ...

    pf = PfMachine(VfSettings(), start=False)
    pf.driver.registers._bus = Gone()
    with pytest.raises(DeviceError, match="does not answer"):
        pf.driver.start()


# the mailbox


def test_a_reset_is_answered_with_the_address_and_opens_the_pool() -> None:
    pf = machine()
    answer = pf.reset_vf(1)
    assert answer[:3] == [mbx.RESET | mbx.ACK, *mac_words(VF_MACS[1])]
    assert [pool.receive for pool in pf.nic.state.pools[:3]] == [False, True, True]
    assert pf.driver.vfs[1].counts.resets == 1


def test_a_vf_without_an_address_is_told_so_and_may_choose_one() -> None:
    pf = PfMachine(VfSettings())
    assert pf.reset_vf(0)[:3] == [mbx.RESET | mbx.NACK, 0, 0]
    assert pf.ask(0, mbx.SET_MAC_ADDR, *mac_words(VF_MACS[5]))[0] == mbx.SET_MAC_ADDR | mbx.ACK | mbx.CTS
    assert pools(pf, VF_MACS[5]) == 1


def test_before_its_reset_a_vf_may_ask_for_nothing() -> None:
    pf = machine()
    for message in ((mbx.SET_LPE, 1522), (mbx.SET_VLAN | ADD, 5), (mbx.SET_MAC_ADDR, *mac_words(VF_MACS[0]))):
        assert pf.ask(0, *message)[0] == message[0] | mbx.NACK
    assert not pf.nic.state.pools[0].receive


class At:
    """The PF's registers, at whose access number `when` something happens."""

    def __init__(self, bus: RegisterBus, when: int, what: Callable[[], None]) -> None:
        self._bus, self._left, self._what = bus, when, what

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            self._what()

    def read32(self, offset: int) -> int:
        self._count()
        return self._bus.read32(offset)

    def write32(self, offset: int, value: int) -> None:
        self._count()
        self._bus.write32(offset, value)

    @property
    def happened(self) -> bool:
        return self._left <= 0


@pytest.mark.parametrize("when", range(1, 13))
def test_a_reset_and_its_request_are_served_whenever_they_come_while_another_vf_is(when: int) -> None:
    pf = machine()
    pf.vwr(1, "VTCTRL", igb_vf.mask("VTCTRL", "RST"))
    pf.run()

    def reset_and_ask() -> None:
        pf.vwr(0, "VTCTRL", igb_vf.mask("VTCTRL", "RST"))
        pf.vwr(0, "VFMAILBOX", VFU)
        pf.vwr(0, "VMBMEM", mbx.RESET)
        pf.vwr(0, "VFMAILBOX", REQ)

    at = pf.driver.registers._bus = At(pf.driver.registers._bus, when, reset_and_ask)
    pf.ask(1, mbx.RESET)
    assert at.happened
    assert pf.vrd(0, "VMBMEM") == mbx.RESET | mbx.ACK
    pf.vwr(0, "VFMAILBOX", ACK)
    assert pf.ask(0, mbx.SET_LPE, 1522)[0] == mbx.SET_LPE | mbx.ACK | mbx.CTS


@pytest.mark.parametrize("mac", [VF_MACS[1], MAC, bytes.fromhex("010000000001"), bytes(6), b"\xff" * 6])
def test_a_vf_with_an_address_gets_no_other(mac: bytes) -> None:
    pf = machine()
    pf.reset_vf(0)
    before = pf.nic.state.unicast
    assert pf.ask(0, mbx.SET_MAC_ADDR, *mac_words(mac))[0] == mbx.SET_MAC_ADDR | mbx.NACK | mbx.CTS
    assert (pf.nic.state.unicast, pf.reports) == (before, [(0, "mailbox_mac")])


def test_a_trusted_vf_may_change_its_address_and_have_more() -> None:
    pf = PfMachine(VfSettings(mac=VF_MACS[0], trust=True))
    pf.reset_vf(0)
    assert pf.ask(0, mbx.SET_MAC_ADDR, *mac_words(VF_MACS[3]))[0] & mbx.ACK
    assert pf.ask(0, mbx.SET_MAC_ADDR | mbx.INFO.put(2), *mac_words(VF_MACS[4]))[0] & mbx.ACK
    assert (pools(pf, VF_MACS[0]), pools(pf, VF_MACS[3]), pools(pf, VF_MACS[4])) == (0, 1, 1)
    assert pf.ask(0, mbx.SET_MAC_ADDR | mbx.INFO.put(1), 0, 0)[0] & mbx.ACK
    assert pools(pf, VF_MACS[4]) == 0


def test_further_addresses_are_refused_to_others_as_igb_does() -> None:
    pf = machine()
    pf.reset_vf(0)
    assert pf.ask(0, mbx.SET_MAC_ADDR | mbx.INFO.put(1), 0, 0)[0] == 0x60010002


def test_multicast_hashes_open_the_pool_for_hashed_frames() -> None:
    pf = machine()
    pf.reset_vf(0)
    assert pf.ask(0, mbx.SET_MULTICAST | mbx.INFO.put(5), 0x00100010, 0x05540FC5, 0x30)[0] == 0xA0050003
    assert pf.driver.vfs[0].driver.hashes == (0x010, 0x010, 0xFC5, 0x554, 0x030)
    assert pf.nic.state.pools[0].accept_multicast_hash
    assert pf.ask(0, mbx.SET_MULTICAST)[0] & mbx.ACK
    assert not pf.nic.state.pools[0].accept_multicast_hash


def test_more_hashes_than_a_message_holds_are_all_multicast() -> None:
    pf = machine()
    pf.reset_vf(0)
    assert pf.ask(0, mbx.SET_MULTICAST | mbx.INFO.put(255))[0] & mbx.ACK
    assert pf.nic.state.pools[0].accept_multicast


def test_vlans_are_joined_and_left_together_with_others() -> None:
    pf = machine()
    for vf in range(2):
        pf.reset_vf(vf)
        assert pf.ask(vf, mbx.SET_VLAN | ADD, 100)[0] == mbx.SET_VLAN | ADD | mbx.ACK | mbx.CTS
    assert [(v.vlan, v.pools) for v in pf.nic.state.vlans] == [(100, 0b11)]
    assert pf.nic.state.filter_vlans
    pf.ask(0, mbx.SET_VLAN, 100)
    assert [(v.vlan, v.pools) for v in pf.nic.state.vlans] == [(100, 0b10)]
    pf.reset_vf(1)
    assert (pf.nic.state.vlans, pf.nic.state.filter_vlans) == ((), False)


@pytest.mark.parametrize(
    "message", [(mbx.SET_VLAN | ADD, 4095), (mbx.SET_VLAN | mbx.INFO.put(9), 5), (mbx.SET_VLAN, 1 << 31)]
)
def test_a_vlan_that_cannot_be_is_refused(message: tuple[int, int]) -> None:
    pf = machine()
    pf.reset_vf(0)
    assert pf.ask(0, *message)[0] & mbx.NACK
    assert pf.nic.state.vlans == ()


def join_vlans(pf: PfMachine, vf: int, vlans: range) -> int:
    """Have a virtual function ask for VLANs, one after another; return how many it got, the first ones."""
    pf.reset_vf(vf)
    granted = []
    for vlan in vlans:
        pf.advance(WINDOW_NS)
        granted.append(bool(pf.ask(vf, mbx.SET_VLAN | ADD, vlan)[0] & mbx.ACK))
    assert granted == sorted(granted, reverse=True)
    return sum(granted)


def test_nobody_who_is_not_trusted_takes_the_vlans_of_others() -> None:
    pf = machine(*[VfSettings()] * 5)
    assert [join_vlans(pf, vf, range(100 * vf + 1, 100 * vf + 8)) for vf in range(6)] == [4] * 6
    pf.driver.configure(6, VfSettings(vlan=7))
    pf.reset_vf(6)
    assert [v.pools for v in pf.nic.state.vlans if v.vlan == 7] == [1 << 6]


def test_a_table_of_vlans_that_the_trusted_have_filled_is_told_the_operator() -> None:
    pf = machine(VfSettings(mac=VF_MACS[2], trust=True))
    assert join_vlans(pf, 2, range(1, 40)) == 32
    assert pf.reset_vf(1)[0] & mbx.ACK
    with pytest.raises(ConfigError, match="none is left for VLAN 100 of VF 1"):
        pf.driver.configure(1, VfSettings(vlan=100))
    assert pf.driver.vfs[1].settings.vlan == 0
    pf.driver.configure(1, VfSettings(vlan=32))  # one that there is
    pf.driver.configure(2, VfSettings(mac=VF_MACS[2]))
    pf.driver.configure(1, VfSettings(vlan=100))
    assert [(v.vlan, v.pools) for v in pf.nic.state.vlans] == [(100, 0b10)]


@pytest.mark.parametrize(
    ("size", "granted", "longest"),
    [(1522, True, 1522), (9728, True, 9728), (9729, False, 1518), (0, False, 1518), (68, True, 1518)],
)
def test_the_longest_frame_is_what_the_vf_asked_for_within_bounds(
    size: int, granted: bool, longest: int
) -> None:
    pf = machine()
    pf.reset_vf(0)
    assert bool(pf.ask(0, mbx.SET_LPE, size)[0] & mbx.ACK) is granted
    assert pf.nic.state.pools[0].frame_max_bytes == longest


def test_every_multicast_frame_is_for_the_trusted() -> None:
    pf = machine(VfSettings(mac=VF_MACS[2], trust=True))
    message = mbx.SET_PROMISC | mbx.INFO.put(mbx.PROMISC_MULTICAST)
    for vf in (0, 2):
        pf.reset_vf(vf)
        pf.ask(vf, message)
    assert [pf.nic.state.pools[vf].accept_multicast for vf in (0, 2)] == [False, True]
    assert pf.reports == [(0, "mailbox_promiscuous")]


@pytest.mark.parametrize("kind", [0, 7, 0x100, 0xFFFF])
def test_a_message_that_does_not_exist_is_refused(kind: int) -> None:
    pf = machine()
    pf.reset_vf(0)
    assert pf.ask(0, kind)[0] == kind | mbx.NACK | mbx.CTS


# settings


def test_settings_of_ip_link_reach_the_switch() -> None:
    pf = machine()
    pf.reset_vf(0)
    pf.driver.configure(
        0, VfSettings(mac=VF_MACS[6], vlan=7, rate_bits_per_second=100_000_000, spoof_check=False)
    )
    state = pf.nic.state
    assert (pools(pf, VF_MACS[0]), pools(pf, VF_MACS[6])) == (0, 1)
    assert (state.pools[0].insertion, state.pools[0].port_vlan) == (VlanInsertion.ALWAYS, 7)
    assert (state.pools[0].strip_vlan, state.pools[0].accept_untagged) == (True, False)
    assert [(v.vlan, v.pools) for v in state.vlans] == [(7, 1)]
    assert [state.pools[n].check_source_mac for n in range(2)] == [False, True]
    assert [state.rates_bits_per_second[queue] for queue in (0, 8, 1)] == [100_000_000, 100_000_000, None]


def test_functions_that_drop_have_it_for_both_queues_and_others_hold_senders_back() -> None:
    pf = PfMachine(VfSettings(), VfSettings(drop=True))
    assert pf.nic.state.drop_queues == 1 << 1 | 1 << 9
    pf.driver.configure(0, VfSettings(drop=True))
    pf.driver.configure(1, VfSettings())
    assert pf.nic.state.drop_queues == 1 << 0 | 1 << 8


@pytest.mark.parametrize("rate", [1_000_000, 33_000_000, 999_999_999, 1_000_000_000])
def test_a_rate_is_met_within_a_percent(rate: int) -> None:
    pf = PfMachine(VfSettings(rate_bits_per_second=rate))
    limit = pf.nic.state.rates_bits_per_second[0]
    assert limit is not None
    assert abs(limit - rate) <= rate / 100


@pytest.mark.parametrize(
    "wrong",
    [
        VfSettings(mac=b"\x01\0\0\0\0\1"), VfSettings(mac=b"\2"), VfSettings(vlan=4095), VfSettings(vlan=-1),
        VfSettings(rate_bits_per_second=-1), VfSettings(rate_bits_per_second=10**9 + 1),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_and_change_nothing(wrong: VfSettings) -> None:
    pf = machine()
    before = pf.nic.state
    with pytest.raises(ConfigError):
        pf.driver.configure(0, wrong)
    assert pf.nic.state is before


def test_a_vf_whose_link_was_turned_off_is_out_until_it_is_on_again() -> None:
    pf = machine()
    for vf in range(2):
        pf.reset_vf(vf)
    pf.driver.configure(0, VfSettings(mac=VF_MACS[0], link=False))
    assert pf.vrd(0, "VMBMEM") == mbx.PF_CONTROL
    assert [pool.transmit for pool in pf.nic.state.pools[:3]] == [False, True, True]
    assert pf.reset_vf(0)[0] == mbx.RESET | mbx.NACK
    assert pf.ask(0, mbx.SET_MAC_ADDR, *mac_words(VF_MACS[0]))[0] == mbx.SET_MAC_ADDR | mbx.NACK
    pf.driver.configure(0, VfSettings(mac=VF_MACS[0]))
    assert pf.reset_vf(0)[0] == mbx.RESET | mbx.ACK
    assert pf.nic.state.pools[0].transmit


def test_a_vf_with_a_vlan_of_the_operator_joins_no_other() -> None:
    pf = PfMachine(VfSettings(mac=VF_MACS[0], vlan=9))
    pf.reset_vf(0)
    assert pf.ask(0, mbx.SET_VLAN | ADD, 10)[0] & mbx.NACK
    assert [(v.vlan, v.pools) for v in pf.nic.state.vlans] == [(9, 1)]


def test_rate_and_trust_take_nothing_from_a_running_driver() -> None:
    pf = machine()
    pf.reset_vf(0)
    pf.driver.configure(0, VfSettings(mac=VF_MACS[0], trust=True, rate_bits_per_second=10_000_000))
    assert pf.nic.state.pools[0].transmit
    assert pf.ask(0, mbx.SET_LPE, 1522)[0] & mbx.CTS


def test_guests_behind_the_bridge_are_named_as_far_as_there_is_room() -> None:
    pf = machine()
    macs = [bytes([2, 1, 0, 0, 0, n]) for n in range(20)]
    assert pf.driver.set_uplink_addresses(macs) == 15
    assert [pools(pf, mac) for mac in macs[:16]] == [0b100] * 15 + [0]
    hashes = {mac[4] >> 4 | mac[5] << 4 for mac in macs[15:]}
    table = int.from_bytes(pf.nic.state.unicast_table, "little")
    assert {bit for bit in range(4096) if table >> bit & 1} == hashes
    assert pf.driver.set_uplink_addresses(macs[:3]) == 3
    assert [pools(pf, mac) for mac in macs[:5]] == [0b100] * 3 + [0] * 2
    assert set(pf.nic.state.unicast_table) == {0}


# link, resets, spoofing


def test_a_link_that_goes_and_comes_is_told_to_everybody() -> None:
    pf = machine()
    pf.reset_vf(0)
    pf.nic.set_wire(False)
    pf.run()
    assert (pf.links, pf.driver.link_up) == ([True, False], False)
    assert [pf.vrd(vf, "VMBMEM") for vf in range(2)] == [mbx.PF_CONTROL | mbx.CTS, mbx.PF_CONTROL]
    pf.nic.set_wire(True)
    pf.run()
    assert pf.links == [True, False, True]


def test_a_function_gets_into_a_guests_hands_reset_and_able_to_send() -> None:
    pf = machine()
    pf.reset_vf(0)
    pf.driver.reset_function(0)
    pf.run()
    seen = [pf.nic.vf_spaces[0].bus_master, pf.nic.state.pools[0].receive]
    pf.driver.open_function(0)
    assert [*seen, pf.nic.vf_spaces[0].bus_master] == [False, False, True]
    assert pf.nic.read(1, 16, 0x72, 2) == 0x8002


def test_a_vf_that_was_reset_has_lost_everything_until_it_asks() -> None:
    pf = machine()
    pf.reset_vf(0)
    pf.ask(0, mbx.SET_VLAN | ADD, 5)
    pf.flr(1)
    pf.run()
    assert (pf.nic.state.vlans, pf.nic.state.pools[0].receive, pf.rd("VFLRE")) == ((), False, 0)
    assert pf.ask(0, mbx.SET_VLAN | ADD, 5)[0] == mbx.SET_VLAN | ADD | mbx.NACK


def test_spoofing_is_reported_with_the_vf_that_did_it() -> None:
    pf = machine()
    pf.nic.spoofed(8, 3)
    pf.run()
    assert (pf.reports, pf.driver.vfs[0].counts.spoof_events) == ([(0, "spoof")], 1)


def test_who_goes_on_spoofing_is_looked_at_now_and_then_and_never_forgotten() -> None:
    pf = machine()
    for _ in range(20):
        pf.nic.spoofed(8, 1)
        pf.run()
    assert pf.driver.vfs[0].counts.spoof_events == 1
    pf.advance(MISBEHAVIOUR_NS)
    assert pf.driver.deadline_ns() is not None
    pf.driver.on_timer(pf.clock.now_ns)
    pf.run()
    assert pf.driver.vfs[0].counts.spoof_events == 2
    pf.advance(MISBEHAVIOUR_NS)
    pf.driver.on_timer(pf.clock.now_ns)
    pf.run()
    assert (pf.driver.vfs[0].counts.spoof_events, pf.driver.deadline_ns()) == (2, None)


# hostile virtual functions


def test_a_flood_of_messages_is_not_listened_to_and_others_are_served() -> None:
    pf = machine()
    pf.reset_vf(0)
    for _ in range(20 * BURST_MESSAGES):
        pf.vwr(0, "VMBMEM", mbx.RESET)
        pf.vwr(0, "VFMAILBOX", igb_vf.mask("VFMAILBOX", "REQ"))
        pf.run()
    flood = pf.driver.vfs[0].counts
    assert flood.messages <= 4 * BURST_MESSAGES
    assert flood.throttled >= 1
    assert pf.reset_vf(1)[0] == mbx.RESET | mbx.ACK


def test_a_vf_that_was_not_listened_to_is_heard_when_its_window_is_over() -> None:
    pf = machine()
    for _ in range(2 * BURST_MESSAGES):
        pf.vwr(0, "VFMAILBOX", igb_vf.mask("VFMAILBOX", "REQ"))
        pf.run()
    due_ns = pf.driver.deadline_ns()
    assert due_ns is not None
    pf.clock.now_ns = due_ns
    assert pf.driver.on_timer(due_ns)
    pf.run()
    assert (pf.driver.deadline_ns(), pf.rd("MBVFIMR")) == (None, 0xFF)
    assert pf.reset_vf(0)[0] == mbx.RESET | mbx.ACK


def test_a_vf_that_never_gives_its_mailbox_back_is_answered_all_the_same() -> None:
    pf = machine()
    pf.vwr(0, "VMBMEM", mbx.RESET)
    pf.vwr(0, "VFMAILBOX", 0x5)
    pf.run()
    assert pf.vrd(0, "VMBMEM") == mbx.RESET | mbx.ACK


def test_an_answer_sent_back_is_no_message() -> None:
    pf = machine()
    for word in (mbx.RESET | mbx.ACK, mbx.RESET | mbx.NACK):
        pf.vwr(0, "VMBMEM", word)
        pf.vwr(0, "VFMAILBOX", igb_vf.mask("VFMAILBOX", "REQ"))
        pf.run()
        assert pf.vrd(0, "VMBMEM") == word


WRITES = st.lists(
    st.tuples(
        st.sampled_from(sorted(reg.name for reg in igb_vf.REGISTERS.registers)),
        st.integers(0, 15),
        st.one_of(
            st.integers(0, 0xFFFF_FFFF), st.integers(0, 6), st.sampled_from([0x10002, 0x20002, 0x10004])
        ),
    ),
    max_size=60,
)


@settings(max_examples=20, deadline=None)
@given(WRITES)
def test_whatever_a_vf_writes_another_keeps_what_it_has(writes: list[tuple[str, int, int]]) -> None:
    pf = machine()
    pf.reset_vf(1)
    pf.ask(1, mbx.SET_VLAN | ADD, 44)
    before = (pf.nic.state.pools[1:], pools(pf, VF_MACS[1]), pools(pf, MAC))
    for name, index, value in writes:
        reg = igb_vf.REGISTERS[name]
        pf.vwr(0, name, value, index % reg.count)
        pf.run()
    assert (pf.nic.state.pools[1:], pools(pf, VF_MACS[1]), pools(pf, MAC)) == before
    assert pools(pf, VF_MACS[0]) == 1
    assert 0b10 & next(v.pools for v in pf.nic.state.vlans if v.vlan == 44)
    assert isinstance(pf.driver, PfDriver)
    assert pf.rd("DTXSWC") == mask("DTXSWC", "LOOPBACK_EN") | 0x0303

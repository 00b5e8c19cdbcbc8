"""The embedded switch's decision: the datasheet's cases by hand, and everything against the plain oracle."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.native import NicSwitch
from testbed.nic.switch_state import Mirror, QueueMode, SwitchState, UnicastFilter, VlanFilter, VlanInsertion
from tests.support import veb_oracle
from tests.support.nic_bench import TO_WIRE, WIRE_SOURCE, frame, mac_of, pool_state, switch_state
from tests.support.veb_oracle import BROADCAST, Header

STRANGER = bytes.fromhex("02aabbccddee")
GROUP = bytes.fromhex("01005e000016")


def bit_table(*bits: int) -> bytes:
    table = bytearray(512)
    for bit in bits:
        table[bit // 8] |= 1 << bit % 8
    return bytes(table)


def decide(
    state: SwitchState, to: bytes, source: int, tag: int | None = None, sender: bytes | None = None
) -> int:
    switch = NicSwitch()
    switch.load(state)
    return switch.decide(frame(to, sender or mac_of(0), tag=tag), source)


def pools(**changes: object) -> tuple[object, ...]:
    return tuple(pool_state(i, **changes) for i in range(8))


def test_unicast_to_a_pool_stays_inside() -> None:
    assert decide(switch_state(), mac_of(3), 0) == 1 << 3


def test_unicast_to_a_stranger_goes_to_the_wire_alone() -> None:
    assert decide(switch_state(), STRANGER, 0) == TO_WIRE


def test_broadcast_goes_to_everyone_but_its_sender() -> None:
    assert decide(switch_state(), BROADCAST, 2) == TO_WIRE | 0xFF & ~(1 << 2)
    assert decide(switch_state(), BROADCAST, WIRE_SOURCE) == 0xFF


def test_own_address_comes_back_only_with_local_loopback() -> None:
    assert decide(switch_state(), mac_of(1), 1) == TO_WIRE
    assert decide(switch_state(pools=pools(local_loopback=True)), mac_of(1), 1) == 1 << 1


def test_without_loopback_the_switch_looks_at_nothing() -> None:
    assert decide(switch_state(loopback=False), mac_of(3), 0) == TO_WIRE


def test_pool_that_must_not_receive_gets_nothing() -> None:
    off = tuple(pool_state(i, receive=i != 3) for i in range(8))
    assert decide(switch_state(pools=off), mac_of(3), WIRE_SOURCE) == 0
    assert decide(switch_state(pools=off), BROADCAST, WIRE_SOURCE) == 0xFF & ~(1 << 3)


def test_unknown_unicast_from_the_wire_goes_to_the_default_pool_in_promiscuous_mode_only() -> None:
    assert decide(switch_state(default_pool=5), STRANGER, WIRE_SOURCE) == 0
    promiscuous = switch_state(default_pool=5, unicast_promiscuous=True)
    assert decide(promiscuous, STRANGER, WIRE_SOURCE) == 1 << 5
    assert decide(promiscuous, mac_of(1), WIRE_SOURCE) == 1 << 1
    assert decide(replace(promiscuous, default_pool=None), STRANGER, WIRE_SOURCE) == 0


@pytest.mark.parametrize(("shift", "bit"), [(36, 0x160), (35, 0x2C0), (34, 0x580), (32, 0x600)])
def test_multicast_by_hash(shift: int, bit: int) -> None:
    listening = tuple(pool_state(i, accept_multicast_hash=i in (1, 4)) for i in range(8))
    state = switch_state(pools=listening, multicast_table=bit_table(bit), hash_shift=shift)
    assert decide(state, GROUP, WIRE_SOURCE) == 1 << 1 | 1 << 4
    assert decide(state, bytes.fromhex("01005e000099"), WIRE_SOURCE) == 0
    assert decide(state, GROUP, 1) == TO_WIRE | 1 << 4


def test_vlan_filter_keeps_pools_apart() -> None:
    vlans = (VlanFilter(100, 0b0110, False, 0), VlanFilter(200, 0b1000, True, 7))
    state = switch_state(filter_vlans=True, vlans=vlans, vlan_table=bit_table(100, 200))
    assert decide(state, mac_of(1), WIRE_SOURCE, tag=100) == 1 << 1
    assert decide(state, mac_of(3), WIRE_SOURCE, tag=100) == 0
    assert decide(state, mac_of(1), WIRE_SOURCE, tag=300) == 0
    assert decide(state, BROADCAST, 1, tag=100) == TO_WIRE | 1 << 2
    assert decide(state, BROADCAST, 1, tag=200) == 1 << 3, "a local VLAN does not leave"


def test_untagged_frames_only_for_pools_that_accept_them() -> None:
    state = switch_state(
        filter_vlans=True, pools=tuple(pool_state(i, accept_untagged=i < 2) for i in range(8))
    )
    assert decide(state, BROADCAST, WIRE_SOURCE) == 0b11


def test_mirror_rules_copy() -> None:
    received = switch_state(mirrors=(Mirror(7, 1 << 2, False, False, ()),))
    assert decide(received, mac_of(2), 0) == 1 << 2 | 1 << 7
    assert decide(received, mac_of(3), 0) == 1 << 3
    up = switch_state(mirrors=(Mirror(7, 0, True, False, ()),))
    assert decide(up, mac_of(3), WIRE_SOURCE) == 1 << 3 | 1 << 7
    down = switch_state(mirrors=(Mirror(7, 0, False, True, ()),))
    assert decide(down, STRANGER, 0) == TO_WIRE | 1 << 7
    assert decide(down, mac_of(3), 0) == 1 << 3


def test_without_pools_everything_is_the_physical_functions() -> None:
    state = switch_state(mode=QueueMode.SINGLE)
    assert decide(state, mac_of(4), WIRE_SOURCE) == 1
    assert decide(state, STRANGER, WIRE_SOURCE) == 0
    assert decide(state, mac_of(4), 0) == TO_WIRE


def test_anti_spoofing_by_address_and_vlan() -> None:
    switch = NicSwitch()
    checked = pools(check_source_mac=True, check_source_vlan=True)
    switch.load(switch_state(pools=checked, vlans=(VlanFilter(100, 0b10, False, 0),)))
    assert switch.permits(frame(STRANGER, mac_of(1)), 1)
    assert switch.permits(frame(STRANGER, mac_of(1), tag=100), 1)
    assert not switch.permits(frame(STRANGER, mac_of(2)), 1)
    assert not switch.permits(frame(STRANGER, mac_of(1), tag=101), 1)
    assert not switch.permits(frame(STRANGER, mac_of(2), tag=100), 2)


ADDRESSES = (*(mac_of(i) for i in range(4)), STRANGER, GROUP, bytes.fromhex("01005e000001"), BROADCAST)
VLANS = (1, 100, 200, 4095)
masks = st.integers(0, 255)
flags = st.booleans()
tables = st.lists(st.sampled_from([0x160, 0x600, 0xEDD, 0xDB, 0x010, 0x100]), max_size=4).map(
    lambda b: bit_table(*b)
)
some_pools = st.tuples(
    *(
        st.builds(
            pool_state,
            st.just(i),
            receive=flags, accept_untagged=flags, accept_broadcast=flags, accept_multicast=flags,
            accept_multicast_hash=flags, accept_unicast_hash=flags, check_source_mac=flags,
            check_source_vlan=flags, local_loopback=flags, insertion=st.just(VlanInsertion.BY_DESCRIPTOR),
        )
        for i in range(8)
    )
)  # fmt: skip
states = st.builds(
    switch_state,
    mode=st.sampled_from([QueueMode.POOLS, QueueMode.POOLS, QueueMode.POOLS_RSS, QueueMode.SINGLE]),
    pools=some_pools,
    unicast=st.lists(st.builds(UnicastFilter, st.sampled_from(ADDRESSES), masks, flags), max_size=24).map(
        tuple
    ),
    multicast_table=tables, unicast_table=tables, hash_shift=st.sampled_from([36, 35, 34, 32]),
    unicast_promiscuous=flags, multicast_promiscuous=flags, accept_broadcast=flags, filter_vlans=flags,
    vlan_table=st.lists(st.sampled_from(VLANS), max_size=4).map(lambda b: bit_table(*b)),
    vlans=st.lists(st.tuples(st.sampled_from(VLANS), masks, flags), max_size=6).map(
        lambda rows: tuple(VlanFilter(v, p, loc, 5 * n) for n, (v, p, loc) in enumerate(rows))
    ),
    default_pool=st.none() | st.integers(0, 7), replicate=flags, loopback=flags,
    mirrors=st.lists(
        st.builds(Mirror, st.integers(0, 7), masks, flags, flags,
                  st.lists(st.sampled_from(VLANS), max_size=2).map(tuple)), max_size=4).map(tuple),
)  # fmt: skip


@settings(max_examples=400)
@given(
    states,
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES),
    st.none() | st.sampled_from(VLANS),
    st.integers(0, 8),
)
def test_native_decision_is_the_oracles(
    state: SwitchState, to: bytes, sender: bytes, vlan: int | None, source: int
) -> None:
    header = Header(to, sender, vlan)
    inside, wire = veb_oracle.decide(state, header, None if source == WIRE_SOURCE else source)
    switch = NicSwitch()
    switch.load(state)
    data = frame(to, sender, tag=vlan)
    assert switch.decide(data, source) == sum(1 << p for p in inside) | (TO_WIRE if wire else 0)
    if source != WIRE_SOURCE:
        assert switch.permits(data, source) == veb_oracle.permits(state, header, source)

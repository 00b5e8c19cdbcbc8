"""Both drivers on a whole NIC in one process: between virtual functions, with the uplink, over a wire;
what a virtual function may not do; resets in traffic.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.native import FrameStore
from testbed.spec import igb_ring as ring
from testbed.spec import igb_vf
from testbed.spec.igb import mask
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.vmm.pf_functions import VfSettings
from tests.support.nic_bench import frame
from tests.support.nic_world import FUNCTION_BASE, NicWorld, receive, send
from tests.support.pf_machine import VF_MACS

OUTSIDE, STRANGER = bytes.fromhex("02000000ff01"), bytes.fromhex("02000000ff02")


def world(*changes: dict[str, object]) -> NicWorld:
    """A NIC with a driver on each virtual function; `changes` are of their settings."""
    changes = changes or ({}, {})
    made = NicWorld(*(VfSettings(mac=VF_MACS[n], **c) for n, c in enumerate(changes)))  # type: ignore[arg-type]
    for vf in range(len(changes)):
        made.load(vf)
    return made


def uplink_takes(nic: NicWorld) -> list[bytes]:
    """Return what the bridge would get from the uplink."""
    burst, got = FrameStore(), list[bytes]()
    while count := nic.uplink.fetch(burst, 256):
        got += [burst.frame_bytes(i) for i in range(count)]
        nic.uplink.complete(burst)
    return got


def uplink_sends(nic: NicWorld, *frames: bytes) -> int:
    """Give frames to the uplink as the bridge does; return how many it took."""
    burst = FrameStore()
    burst.load(frames)
    burst.send_all_to(5)
    return nic.uplink.deliver(burst, 0, 5)


def test_frames_of_one_vf_reach_the_other_and_nobody_else() -> None:
    nic = world()
    frames = [frame(VF_MACS[1], VF_MACS[0], n) for n in range(50)]
    assert send(nic.guests[0], frames) == 50
    nic.run()
    assert receive(nic.guests[1]) == frames
    assert (receive(nic.guests[0]), uplink_takes(nic), nic.reports, nic.stopped) == ([], [], [], [])
    nic.assert_intact()


def test_rings_go_round_many_times_without_loss() -> None:
    nic = world()
    sent: list[bytes] = []
    got: list[bytes] = []
    for turn in range(40):
        frames = [frame(VF_MACS[1], VF_MACS[0], turn * 50 + n, 60 + n) for n in range(50)]
        sent += frames[: send(nic.guests[0], frames)]
        nic.run()
        got += receive(nic.guests[1])
        nic.run()
    assert len(sent) > 1900
    assert got == sent


def test_a_promiscuous_vf_gets_a_copy_of_what_others_send_each_other_and_outwards() -> None:
    nic = world({}, {}, {"promiscuous": True})
    inside = [frame(VF_MACS[1], VF_MACS[0], n) for n in range(20)]
    outward = frame(OUTSIDE, VF_MACS[0])
    send(nic.guests[0], [*inside, outward])
    nic.run()
    assert receive(nic.guests[1]) == inside
    assert receive(nic.guests[2]) == [*inside, outward]
    nic.assert_intact()


def test_of_vfs_with_one_address_one_gets_everything_where_nothing_is_replicated() -> None:
    nic = NicWorld(*(VfSettings(mac=mac) for mac in (VF_MACS[0], VF_MACS[0], VF_MACS[1])), replicate=False)
    for vf in range(3):
        nic.load(vf)
    frames = [frame(VF_MACS[0], VF_MACS[1], n) for n in range(20)]
    send(nic.guests[2], frames)
    nic.run()
    assert (receive(nic.guests[0]), receive(nic.guests[1])) == (frames, [])


def test_broadcast_reaches_every_pool_but_the_senders() -> None:
    nic = world({}, {}, {})
    data = frame(b"\xff" * 6, VF_MACS[0])
    send(nic.guests[0], [data])
    nic.run()
    assert [receive(nic.guests[vf]) for vf in range(3)] == [[], [data], [data]]
    assert uplink_takes(nic) == [data]


def test_an_address_of_the_bridge_reaches_it_and_one_that_nobody_has_does_not() -> None:
    nic = world()
    nic.driver.set_uplink_addresses([OUTSIDE])
    data, stray = frame(OUTSIDE, VF_MACS[0]), frame(STRANGER, VF_MACS[0])
    send(nic.guests[0], [data, stray])
    nic.run()
    assert (uplink_takes(nic), receive(nic.guests[1])) == ([data], [])


def test_more_addresses_than_there_are_entries_reach_the_bridge_by_hash() -> None:
    nic = world()
    macs = [bytes([2, 1, 0, 0, 0, n]) for n in range(20)]
    assert nic.driver.set_uplink_addresses(macs) == 15
    frames = [frame(mac, VF_MACS[0], n) for n, mac in enumerate(macs)]
    send(nic.guests[0], frames)
    nic.run()
    assert (uplink_takes(nic), receive(nic.guests[1])) == (frames, [])


def test_the_bridge_reaches_a_vf() -> None:
    nic = world()
    frames = [frame(VF_MACS[1], OUTSIDE, n) for n in range(30)]
    assert uplink_sends(nic, *frames) == 30
    nic.run()
    assert (receive(nic.guests[1]), receive(nic.guests[0])) == (frames, [])


def test_an_uplink_without_room_holds_the_bridge_back() -> None:
    nic = world()
    frames = [frame(VF_MACS[1], OUTSIDE, n) for n in range(100)]
    assert uplink_sends(nic, *frames) == 63
    seen = [nic.uplink.tx.ready]
    nic.run()
    seen.append(nic.uplink.tx.ready)
    assert seen == [False, True]
    assert receive(nic.guests[1]) == frames[:63]


def test_a_frame_that_no_buffer_of_the_uplink_holds_is_dropped_alone() -> None:
    nic = world()
    short = frame(VF_MACS[1], OUTSIDE, 1)
    assert uplink_sends(nic, frame(VF_MACS[1], OUTSIDE, 2, 3000), short) == 2
    nic.run()
    assert receive(nic.guests[1]) == [short]
    counts = PORT_COUNTERS.unpack(nic.port_counters)
    assert (counts["dropped_too_long"], counts["frames_out"], counts["bytes_out"]) == (1, 1, 60)


def test_two_nics_over_a_wire() -> None:
    near, far = world(), NicWorld(VfSettings(mac=VF_MACS[4]))
    far.load(0)
    near.plug(far)
    frames = [frame(VF_MACS[4], VF_MACS[0], n) for n in range(40)]
    send(near.guests[0], frames)
    for _ in range(50):
        near.run()
        far.run()
    assert receive(far.guests[0]) == frames
    assert (uplink_takes(near), uplink_takes(far)) == ([], [])


def test_a_named_guest_of_the_bridge_is_reached_without_the_wire() -> None:
    near, far = world(), NicWorld(VfSettings(mac=VF_MACS[4]))
    near.plug(far)
    assert near.driver.set_uplink_addresses([OUTSIDE]) == 1
    data = frame(OUTSIDE, VF_MACS[0])
    send(near.guests[0], [data])
    for _ in range(5):
        near.run()
        far.run()
    assert (uplink_takes(near), uplink_takes(far)) == ([data], [])


@pytest.mark.parametrize("checked", [True, False])
def test_anothers_source_address_is_stopped_while_it_is_checked(checked: bool) -> None:
    nic = world({"spoof_check": checked}, {})
    data = frame(VF_MACS[1], OUTSIDE)
    send(nic.guests[0], [data])
    nic.run()
    assert receive(nic.guests[1]) == ([] if checked else [data])
    assert nic.reports == ([(0, "spoof")] if checked else [])
    assert nic.driver.vfs[0].counts.spoof_events == checked


def test_anothers_vlan_is_stopped() -> None:
    nic = world({"vlan": 7}, {})
    nic.guests[1].join_vlan(8)
    send(nic.guests[1], [frame(VF_MACS[0], VF_MACS[1], tag=7)])
    nic.run()
    assert (receive(nic.guests[0]), nic.reports) == ([], [(1, "spoof")])


def test_the_operators_vlan_is_invisible_to_its_members_and_closed_to_others() -> None:
    nic = world({"vlan": 7}, {"vlan": 7}, {})
    inside, outside = frame(VF_MACS[1], VF_MACS[0]), frame(VF_MACS[2], VF_MACS[0])
    send(nic.guests[0], [inside, outside])
    nic.run()
    assert (receive(nic.guests[1]), receive(nic.guests[2])) == ([inside], [])


@pytest.mark.parametrize("trust", [False, True])
def test_a_trusted_function_is_found_at_the_address_that_it_chose(trust: bool) -> None:
    nic = world({"trust": trust}, {})
    chosen = bytes.fromhex("02000000aa01")
    assert nic.guests[0].set_mac(chosen) == trust
    to_old, to_new = frame(VF_MACS[0], VF_MACS[1]), frame(chosen, VF_MACS[1])
    send(nic.guests[1], [to_old, to_new])
    send(nic.guests[0], [frame(VF_MACS[1], chosen)])
    nic.run()
    assert receive(nic.guests[0]) == ([to_new] if trust else [to_old])
    assert len(receive(nic.guests[1])) == trust
    assert nic.reports == ([] if trust else [(0, "mailbox_mac"), (0, "spoof")])


def test_a_vf_whose_link_is_off_neither_sends_nor_receives() -> None:
    nic = world()
    nic.driver.configure(0, VfSettings(mac=VF_MACS[0], link=False))
    nic.run()
    send(nic.guests[0], [frame(VF_MACS[1], VF_MACS[0])])
    send(nic.guests[1], [frame(VF_MACS[0], VF_MACS[1])])
    nic.run()
    assert ([receive(nic.guests[vf]) for vf in range(2)], nic.guests[0].link_up) == ([[], []], False)


def test_a_vf_that_was_turned_on_again_goes_on() -> None:
    nic = world()
    for link in (False, True):
        nic.driver.configure(0, VfSettings(mac=VF_MACS[0], link=link))
        nic.run()
    data = frame(VF_MACS[1], VF_MACS[0])
    assert send(nic.guests[0], [data]) == 1
    nic.run()
    assert receive(nic.guests[1]) == [data]


def test_a_reset_in_traffic_leaves_the_other_vf_at_work() -> None:
    nic = world({}, {}, {})
    send(nic.guests[0], [frame(VF_MACS[1], VF_MACS[0], n) for n in range(50)])
    nic.turn()
    nic.vwr(0, "VTCTRL", igb_vf.mask("VTCTRL", "RST"))
    frames = [frame(VF_MACS[2], VF_MACS[1], n) for n in range(50)]
    send(nic.guests[1], frames)
    nic.run()
    assert receive(nic.guests[2]) == frames
    nic.assert_intact()


@pytest.mark.parametrize("address", [0, FUNCTION_BASE, 3 * FUNCTION_BASE, (1 << 64) - 4096])
def test_a_ring_in_anothers_memory_is_refused_and_stops_its_queue_alone(address: int) -> None:
    nic = world()
    nic.driver.set_uplink_addresses([OUTSIDE])
    nic.vwr(0, "TXDCTL", 0)
    nic.vwr(0, "TDBAL", address & 0xFFFF_FFFF)
    nic.vwr(0, "TDBAH", address >> 32)
    nic.vwr(0, "TXDCTL", mask("TXDCTL", "ENABLE"))
    nic.vwr(0, "TDT", 20)
    nic.run()
    assert nic.iommus[1].refused > 0
    assert [function for function, _ in nic.stopped] == [1]
    data = frame(OUTSIDE, VF_MACS[1])
    send(nic.guests[1], [data])
    nic.run()
    assert uplink_takes(nic) == [data]
    nic.assert_intact()


def test_interrupts_come_for_frames_and_stop_while_masked() -> None:
    nic = world()
    seen: list[tuple[int, int]] = []
    handle = nic._interrupt

    def record(function: int, vector: int) -> None:
        seen.append((function, vector))
        handle(function, vector)

    nic._interrupt = record  # type: ignore[method-assign]
    for _ in range(3):
        send(nic.guests[0], [frame(VF_MACS[1], VF_MACS[0])])
        nic.run()
        receive(nic.guests[1])
    assert (seen.count((2, 1)), seen.count((1, 0))) == (1, 1)
    assert not nic.guests[1].before_sleep()
    send(nic.guests[0], [frame(VF_MACS[1], VF_MACS[0])])
    nic.run()
    assert seen.count((2, 1)) == 2


ACTION = st.tuples(
    st.sampled_from(sorted(reg.name for reg in igb_vf.REGISTERS.registers)),
    st.integers(0, 15),
    st.one_of(
        st.integers(0, 0xFFFF_FFFF), st.integers(0, 80), st.sampled_from([0x0200_0000, 0x0400_0000, 0x1000])
    ),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(ACTION, max_size=30), st.binary(min_size=64, max_size=1024))
def test_whatever_a_vf_does_to_its_function_others_lose_nothing(
    actions: list[tuple[str, int, int]], garbage: bytes
) -> None:
    nic = world({}, {}, {})
    honest = nic.guests.pop(0)  # the hostile driver is in its place, and answers no interrupt
    pinned = honest._tx_ring.pinned.words(0, 64 * ring.DESC_BYTES)
    for index in range(len(garbage) // 8):
        pinned[index] = int.from_bytes(garbage[8 * index : 8 * index + 8], "little")
    for name, index, value in actions:
        nic.vwr(0, name, value, index % igb_vf.REGISTERS[name].count)
        nic.turn()
    nic.run()
    nic.advance(200_000_000)
    nic.run()
    for guest in (1, 2):
        receive(nic.guests[guest])
    nic.run()
    frames = [frame(VF_MACS[2], VF_MACS[1], n) for n in range(40)]
    assert send(nic.guests[1], frames) == 40
    nic.run()
    assert [data for data in receive(nic.guests[2]) if data[6:12] == VF_MACS[1]] == frames
    nic.assert_intact()
